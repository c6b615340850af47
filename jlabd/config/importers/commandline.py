"""From the words of a command to what they mean: which JupyterLab, of which environment, with which options. Pure.

Words are as the program would get them; a `Riddle` is one that only a shell could know.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Generator, Iterator, Sequence

from jlabd.config.importers.findings import HOME, Fact, Finding, Place, Remark, quoted
from jlabd.config.importers.traits import Trait
from jlabd.config.importers.traits import read as read_trait


class Riddle(str):
    """A word as it is written, because what it comes to is decided elsewhere."""

    __slots__ = ()


Words = Sequence[str]

_LABS = {"jupyter-lab": "", "jupyter-notebook": "Jupyter Notebook", "jupyter-server": "Jupyter Server"}
_SUBCOMMANDS = {name.removeprefix("jupyter-"): old for name, old in _LABS.items()}
_MODULES = {"jupyterlab": "", "notebook": "Jupyter Notebook", "jupyter_server": "Jupyter Server"}
_PYTHON = re.compile(r"python[0-9.]*")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_TRAIT = re.compile(r"--?([A-Za-z_][A-Za-z0-9_]*)\.([A-Za-z_][A-Za-z0-9_.]*)(?:=(.*))?", re.DOTALL)
_NO_SCRIPTS = ("/usr/bin/", "/usr/sbin/", "/usr/lib", "/bin/", "/sbin/")
_SYSTEM = ("", "/usr", "/usr/local", f"{HOME}/.local")
_VALUES = {
    "--ip": "ip",
    "--port": "port",
    "--port-retries": "port_retries",
    "--sock": "sock",
    "--sock-mode": "sock_mode",
    "--notebook-dir": "root_dir",
    "--root-dir": "root_dir",
    "--certfile": "certfile",
    "--keyfile": "keyfile",
    "--client-ca": "client_ca",
    "--browser": "browser",
    "--preferred-dir": "preferred_dir",
}
_OTHER_VALUES = frozenset({"--log-level", "--app-dir", "--gateway-url", "--transport"})
_FLAGS = {
    "--no-browser": ("open_browser", "False"),
    "--allow-root": ("allow_root", "True"),
    "-y": ("answer_yes", "True"),
    "--generate-config": ("generate_config", "True"),
    "--show-config": ("show_config", "True"),
}
_PROJECT = "the environment that {name} keeps for the project has a folder; write that as venv"
_NO_START = frozenset(
    {"stop", "list", "build", "clean", "path", "paths", "workspaces", "licenses", "password", "extension"}
)
_MANAGED_BY_JLABD = "jlabd starts the program itself"
_ONLY_A_SHELL = "its value is not known here; write what it comes to"


def read(words: Words, place: Place) -> Iterator[Finding]:
    """Yield what `words` mean. A script comes out as the fact `@script`, the text for a shell as `@shell`."""
    while words:
        rest = yield from _unwrapped(words, place)
        if rest is None:
            yield from _program(words, place)
            return
        words = rest


def _unwrapped(words: Words, place: Place) -> Generator[Finding, None, Words | None]:
    """Take off one program that only starts another one; return the words of that, or None."""
    name = posixpath.basename(words[0])
    if found := _ASSIGNMENT.fullmatch(words[0]):
        if isinstance(words[0], Riddle):
            yield Remark(place, quoted(words[0]), _ONLY_A_SHELL)
        else:
            yield Fact(("env", found[1]), found[2], place)
        return words[1:]
    if name in {"exec", "command", "nohup", "env", "setsid", "time"}:
        at = _first_plain(words, {"-u", "-a", "-C"} if name == "env" else {"-a"})
        if name == "nohup":
            yield Remark(place, "nohup", _MANAGED_BY_JLABD)
        return words[at:]
    if name in {"nice", "ionice", "chrt", "taskset", "stdbuf", "timeout"}:
        at = _first_plain(words, {"-n", "-c", "-p", "-i", "-o", "-e", "-k", "-s"})
        at += name in {"taskset", "chrt", "timeout"} and "-c" not in words[:at]
        yield Remark(place, _shown(words[:at]), "jlabd sets no priorities; limits has cpu_quota and memory_max")
        return words[at:]
    if name in {"sudo", "runuser", "gosu", "su-exec", "setpriv", "su"}:
        return (yield from _as_user(name, words, place))
    if name in {"poetry", "pipenv", "pdm", "hatch", "uv"} and words[1:2] == ["run"]:
        yield Remark(place, f"{name} run", _PROJECT.format(name=name))
        return words[2:]
    if name == "conda" or name in {"mamba", "micromamba"}:
        return (yield from _conda_run(words, place))
    return None


def _first_plain(words: Words, with_value: set[str]) -> int:
    """Return where the command begins behind the options of a wrapper."""
    at = 1
    while at < len(words) and words[at].startswith("-"):
        if words[at] == "--":
            return at + 1
        at += 2 if words[at] in with_value else 1
    return at


def _as_user(name: str, words: Words, place: Place) -> Generator[Finding, None, Words]:
    """Take off what changes the user."""
    user = ""
    at = 1
    shell: str | None = None
    while at < len(words) and words[at].startswith("-"):
        word = words[at]
        if word == "--":
            at += 1
            break
        if word in {"-u", "--user", "--reuid"} and at + 1 < len(words):
            user, at = words[at + 1], at + 1
        elif word.startswith(("--user=", "--reuid=")):
            user = word.partition("=")[2]
        elif word in {"-c", "--command"} and name in {"su", "runuser"} and at + 1 < len(words):
            shell, at = words[at + 1], at + 1
        at += 1
    if name in {"gosu", "su-exec", "su"} or (name == "runuser" and not user):
        user, at = words[at] if at < len(words) else "", at + 1
        if shell is None and at + 1 < len(words) and words[at] == "-c":
            shell = words[at + 1]
    if user:
        yield Fact(("user",), user, place)
    if shell is not None:
        yield Fact(("@shell",), shell, place)
        return []
    return words[at:]


def _conda_run(words: Words, place: Place) -> Generator[Finding, None, Words | None]:
    if "run" not in words:
        return None
    at = _first_plain([words[0], *words[words.index("run") + 1 :]], {"-n", "--name", "-p", "--prefix", "--cwd"})
    start = words.index("run") + at
    options = words[words.index("run") + 1 : start]
    for flag, value in itertools.pairwise(options):
        if flag in {"-p", "--prefix"} and value:
            yield Fact(("@venv",), value, place)
        elif flag in {"-n", "--name"} and value:
            prefix = posixpath.dirname(posixpath.dirname(words[0]))
            yield from conda_environment(prefix, value, place)
    return words[start:]


def conda_environment(prefix: str, name: str, place: Place) -> Iterator[Finding]:
    """Yield the folder of an environment of the conda in `prefix` (empty: unknown)."""
    if "/" in name:
        yield Fact(("@venv",), name, place)
    elif not prefix:
        yield Remark(
            place, f"conda environment {quoted(name)}", "conda's folder is not named here; write its path as venv"
        )
    else:
        yield Fact(("@venv",), prefix if name == "base" else f"{prefix}/envs/{name}", place)


def _program(words: Words, place: Place) -> Iterator[Finding]:
    """Yield what a program and its arguments mean."""
    path = words[0]
    name = posixpath.basename(path)
    if name in _SHELLS:
        yield from _shell(words, place)
    elif name == "jupyter" or name in _LABS:
        yield from _found(path, name, words, place)
    elif _PYTHON.fullmatch(name):
        yield from _python(path, words, place)
    elif "/" in path and (path.endswith(".sh") or not path.startswith(_NO_SCRIPTS)):
        yield Fact(("@script",), path, place)
        yield from _left_over(words[1:], "arguments of the script", place)
    else:
        yield Fact(("@unknown",), quoted(path or "?"), place)


def _shell(words: Words, place: Place) -> Iterator[Finding]:
    at = 1
    while at < len(words) and words[at].startswith("-"):
        word = words[at]
        if "c" in word[1:] and not word.startswith("--"):
            yield Fact(("@shell",), words[at + 1] if at + 1 < len(words) else "", place)
            return
        at += 2 if word in {"-o", "--rcfile", "--init-file"} else 1
    if at < len(words) and words[at]:
        yield Fact(("@script",), words[at], place)
        yield from _left_over(words[at + 1 :], "arguments of the script", place)


def _left_over(words: Words, what: str, place: Place) -> Iterator[Remark]:
    if words:
        yield Remark(place, f"{what}: {_shown(words)}", "they are not followed into it")


def _found(path: str, name: str, words: Words, place: Place) -> Iterator[Finding]:
    """Yield what `jupyter …` means."""
    rest = words[1:]
    if rest[name == "jupyter" :][:1] and rest[name == "jupyter"] in _NO_START:
        yield Fact(("@unknown",), quoted(" ".join(words)), place)
        return
    if name == "jupyter":
        if not rest or rest[0] not in _SUBCOMMANDS:
            yield Fact(("@unknown",), quoted(f"jupyter {rest[0] if rest else ''}"), place)
            return
        old, rest = _SUBCOMMANDS[rest[0]], rest[1:]
    else:
        old = _LABS[name]
    yield Fact(("@lab",), True, place)
    yield from _environment(path, place)
    yield from _was(old, place)
    yield from options(rest, place)


def _was(old: str, place: Place) -> Iterator[Remark]:
    if old:
        yield Remark(place, old, "jlabd runs JupyterLab, which must be installed in the same environment")


def _python(path: str, words: Words, place: Place) -> Iterator[Finding]:
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] != "-m":
        at += 1
    module = words[at + 1] if at + 1 < len(words) and words[at] == "-m" else None
    if module is None and at < len(words) and posixpath.basename(words[at]) in {"jupyter", *_LABS}:
        script = words[at]
        yield from _found(script, posixpath.basename(script), words[at:], place)
    elif module == "jupyter":
        yield from _found(path, "jupyter", words[at + 1 :], place)
    elif module in _MODULES:
        yield Fact(("@lab",), True, place)
        yield from _environment(path, place)
        yield from _was(_MODULES[module or ""], place)
        yield from options(words[at + 2 :], place)
    else:
        yield Fact(("@unknown",), quoted(_shown(words[: at + 2])), place)


def _environment(path: str, place: Place) -> Iterator[Finding]:
    """Yield the environment that a program at `path` belongs to."""
    folder, _, _ = path.rpartition("/")
    if not folder:
        return
    prefix = folder.removesuffix("/bin")
    if prefix == folder and not folder.endswith("bin"):
        return
    yield Fact(("@venv",), prefix, place)


def is_systems(prefix: str) -> bool:
    """Tell whether the Python in `prefix` is the system's, or what `pip install --user` made of it."""
    return prefix in _SYSTEM or prefix.endswith("/.local")


def options(words: Words, place: Place) -> Iterator[Finding]:
    """Yield what the options of JupyterLab mean."""
    at = 0
    while at < len(words):
        word = words[at]
        following = words[at + 1] if at + 1 < len(words) else None
        at += 1
        at += yield from _option(word, following, place)


def _option(word: str, following: str | None, place: Place) -> Generator[Finding, None, int]:
    """Yield what one option means; return how many of the following words belong to it."""
    name, sign, value = word.partition("=")
    separate = not sign and following is not None and not following.startswith("-")
    if isinstance(word, Riddle) or (separate and isinstance(following, Riddle) and _takes_value(name)):
        yield Remark(place, quoted(word if sign or not separate else f"{word} {following}"), _ONLY_A_SHELL)
        if name.endswith(("-port", ".port")):
            yield Fact(("@port",), None, place)
        return int(not isinstance(word, Riddle))
    if name in {"--config", "-f"} and (sign or separate):
        yield Fact(("@config",), value if sign else following, place)
        return int(not sign)
    if name in _FLAGS and not sign:
        trait, flag = _FLAGS[name]
        yield from _flag(word, trait, flag, place)
    elif name in _VALUES and (sign or separate):
        yield from read_trait(Trait("ServerApp", _VALUES[name], value if sign else following, place))
        return int(not sign)
    elif found := _TRAIT.fullmatch(word):
        yield from read_trait(Trait(found[1], found[2], found[3] if sign else following if separate else "True", place))
        return int(separate)
    elif word.startswith("-"):
        yield Fact(("@arg", name), word, place)
        if name in _OTHER_VALUES and separate:
            yield Fact(("@arg", f"{name} value"), following, place)
            return 1
    else:
        yield Remark(place, quoted(word), "a service opens no notebook")
    return 0


def _takes_value(name: str) -> bool:
    return name in _VALUES or name in _OTHER_VALUES or name in {"--config", "-f"} or bool(_TRAIT.fullmatch(name))


def _flag(word: str, trait: str, value: str, place: Place) -> Iterator[Finding]:
    for finding in read_trait(Trait("ServerApp", trait, value, place)):
        yield Remark(place, word, finding.why) if isinstance(finding, Remark) else finding


def _shown(words: Words) -> str:
    return quoted(" ".join(words))
