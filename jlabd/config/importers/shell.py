"""A shell script that starts a lab: what it sets up on the way, and with which words it starts it. Pure.

Conservative: what is not one of the few things that such scripts are known to do becomes a remark.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field

from jlabd.config.importers import commandline
from jlabd.config.importers.commandline import Riddle, Words
from jlabd.config.importers.findings import HOME, USER, Fact, Finding, Given, Kind, Part, Place, Remark, quoted
from jlabd.config.importers.shell_words import Command, Scanner, ShellError

LARGEST = 256 * 1024
_DEEPEST = 4
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_ACTIVATE = re.compile(r"(.*)/bin/activate")
_CONDA = re.compile(r"(.*)/(?:etc/profile\.d/conda\.sh|bin/activate)")
_HARMLESS = frozenset({"set", "true", ":", "wait", "trap", "shopt", "hash", "unalias", "exit", "return"})
_STRUCTURE = frozenset(
    {
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "for",
        "while",
        "until",
        "do",
        "done",
        "case",
        "esac",
        "function",
        "{",
        "}",
        "!",
    }
)
_CONTROL = "a script's branches and loops are not followed; jlabd starts the lab, and again if it ends"
_ONLY_A_SHELL = "only a shell knows what it comes to"
_NOT_UNDERSTOOD = "it ran with each start; jlabd runs no script: if it is needed, do it once, or from cron"


@dataclass(slots=True)
class _Script:
    """One reading of a script."""

    base: Place
    depth: int
    variables: dict[str, str]
    exported: set[str] = field(default_factory=set)
    conda: str = ""
    found: bool = False

    def read(self, text: str) -> Iterator[Finding]:
        if len(text) > LARGEST:
            raise self.base.failed("is far too large for a script that starts a lab")
        try:
            for command in Scanner(text, self.variables).commands():
                yield from self._command(command)
        except ShellError as error:
            raise self._at(error.line).failed(str(error)) from None

    def _at(self, line: int) -> Place:
        # The text behind -c is on the line of its command.
        return Place(self.base.file, self.base.line or line)

    def _command(self, command: Command) -> Iterator[Finding]:
        place = self._at(command.line)
        words = command.words
        while words and words[0] in _STRUCTURE:
            yield Remark(place, words[0], _CONTROL)
            if words[0] in {"for", "case", "function"}:
                return
            words = words[1:]
        while words and (found := _ASSIGNED.fullmatch(words[0])):
            if isinstance(words[0], Riddle):
                self.variables.pop(found[1], None)
                yield Remark(place, quoted(words[0]), _ONLY_A_SHELL)
                words = words[1:]
                continue
            self.variables[found[1]] = found[2]
            if len(words) > 1 or found[1] in self.exported:
                yield Fact(("env", found[1]), found[2], place)
            words = words[1:]
        if words:
            understood = yield from self._builtin(words, place)
            understood = understood or (yield from self._program(words, place))
            if not understood:
                return
        for redirection in command.redirections:
            yield Remark(place, quoted(redirection), "jlabd keeps the lab's output: jlabctl logs NAME")
        if command.end == "&":
            yield Remark(place, "&", "jlabd keeps the lab in the foreground and watches it")

    def _builtin(self, words: Words, place: Place) -> Generator[Finding, None, bool]:
        """Yield what one of the commands that only a shell has means; return whether it was one."""
        match words[0]:
            case "cd" | "pushd" if len(words) == 2 and not isinstance(words[1], Riddle):
                yield Fact(("@cwd",), words[1], place)
            case "export" | "declare" | "readonly" | "typeset":
                yield from self._export(words[1:], place)
            case "unset":
                yield from self._unset(words[1:], place)
            case "source" | "." if len(words) > 1 and not isinstance(words[1], Riddle):
                yield from self._source(words[1:], place)
            case "conda" | "mamba" | "micromamba" if words[1:2] == ["activate"]:
                name = words[2] if len(words) > 2 else "base"
                prefix = self.conda or self.variables.get("MAMBA_ROOT_PREFIX", "")
                yield from commandline.conda_environment(prefix, name, place)
            case "umask" if len(words) == 2:
                yield Fact(("umask",), words[1].zfill(4), place)
            case "ulimit" if len(words) == 3 and words[1] in {"-n", "-Sn", "-Hn", "-SHn"} and words[2].isdigit():
                yield Fact(("limits", "open_files"), int(words[2][:12]), place)
            case word if word in _HARMLESS:
                pass
            case _:
                return False
        return True

    def _export(self, words: Words, place: Place) -> Iterator[Finding]:
        for word in words:
            found = _ASSIGNED.fullmatch(word)
            if isinstance(word, Riddle):
                yield Remark(place, quoted(f"export {word}"), f"{_ONLY_A_SHELL}; write that into env")
            elif found:
                self.variables[found[1]] = found[2]
                self.exported.add(found[1])
                yield Fact(("env", found[1]), found[2], place)
            elif _NAME.fullmatch(word):
                self.exported.add(word)
                if word in self.variables and word not in {"HOME", "USER", "LOGNAME"}:
                    yield Fact(("env", word), self.variables[word], place)

    def _unset(self, words: Words, place: Place) -> Iterator[Finding]:
        for word in words:
            if word in self.exported:
                self.exported.discard(word)
                yield Fact(("env", word), None, place)
            self.variables.pop(word, None)

    def _source(self, words: Words, place: Place) -> Iterator[Finding]:
        path = words[0]
        if path.endswith("/etc/profile.d/conda.sh"):
            self.conda = path.removesuffix("/etc/profile.d/conda.sh")
        elif found := _ACTIVATE.fullmatch(path):
            looks_like_conda = len(words) > 1 or re.search(r"(?i)conda|mamba|miniforge", posixpath.basename(found[1]))
            if looks_like_conda:
                self.conda = found[1]
                yield from commandline.conda_environment(found[1], words[1] if len(words) > 1 else "base", place)
            else:
                yield Fact(("@venv",), found[1], place)
        else:
            yield Remark(place, quoted(f"source {path}"), "what that file sets is not followed; write it into env")

    def _program(self, words: Words, place: Place) -> Generator[Finding, None, bool]:
        """Yield what a program means; return whether it is a lab, or leads to one."""
        findings = list(command(words, place, self.depth + 1, self.variables))
        is_lab = any(isinstance(f, Fact) and f.key == ("@lab",) for f in findings)
        if is_lab and self.found:
            yield Remark(place, quoted(" ".join(words)), "the script starts a lab further up already")
        elif is_lab:
            self.found = True
            yield from findings
        elif any(isinstance(f, Fact) and f.key == ("@unknown",) for f in findings):
            yield Remark(place, quoted(" ".join(words)), _NOT_UNDERSTOOD)
            return False
        else:
            yield from findings
        return True


def command(
    words: Words, place: Place, depth: int = 0, variables: Mapping[str, str] | None = None
) -> Iterator[Finding]:
    """Yield what a command means; what a `sh -c` in it is told is read too."""
    for finding in commandline.read(words, place):
        if not isinstance(finding, Fact) or finding.key != ("@shell",):
            yield finding
        elif depth >= _DEEPEST:
            raise place.failed("shells start shells here, more deeply than anybody would")
        else:
            line = Place(place.file, place.line or 1)
            yield from _Script(line, depth, dict(variables or _known())).read(str(finding.value))


def _known() -> dict[str, str]:
    return {"HOME": HOME, "USER": USER, "LOGNAME": USER}


def read(given: Given, variables: Mapping[str, str] | None = None) -> Part:
    """Return what a script says; `variables` are in its environment. Raises ImportFailedError."""
    script = _Script(Place(given.path), 0, {**_known(), **(variables or {})})
    script.exported.update(variables or ())
    name = posixpath.basename(given.path).partition(".")[0]
    return Part(Kind.SCRIPT, given.at(0), name, list(script.read(given.text)), given.owner)
