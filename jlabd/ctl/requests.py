"""`jlabctl signal`, `reload`, `url` and `passwd`; and `check`, `doctor` and `import`, which are other programs."""

from __future__ import annotations

import os
import sys

from jlabd.control.client import UnreachableError, request
from jlabd.control.wire import loads, quote
from jlabd.ctl.failure import DONE, FAILED, USAGE, CommandError
from jlabd.ctl.text import safe
from jlabd.ctl.waiting import Waiting
from jlabd.ourselves import own_program

REEXEC_S = 60.0
"""How long a daemon may take to replace itself."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any


def send_signal(socket: str, name: str, signal: str) -> int:
    """Send a signal to the server process of an instance."""
    request(socket, "POST", "/signal", {"name": name, "signal": _signal_number(signal)}).read()
    return DONE


def _signal_number(text: str) -> int:
    import signal

    wanted = text.upper().removeprefix("SIG")
    for number in signal.valid_signals():
        if wanted == str(int(number)) or (isinstance(number, signal.Signals) and number.name == f"SIG{wanted}"):
            return int(number)
    raise CommandError(f"'{text}' is not a signal; write a name like HUP or a number", USAGE)


def reload(socket: str, *, dry_run: bool, as_json: bool) -> int:
    """Have the daemon apply the edited configuration, or show what it would do."""
    with Waiting("the dry run" if dry_run else "the reload"):
        body = request(socket, "POST", "/reload", {"dry_run": dry_run}, timeout=None).read()
    plan = loads(body)
    if as_json:
        sys.stdout.write(body.decode())
    else:
        _show(plan, dry_run=dry_run)
    return DONE if plan["ok"] else FAILED


def _show(plan: dict[str, Any], *, dry_run: bool) -> None:
    for line in _summary(plan):
        print(safe(line))
    if dry_run and plan["nginx"]:
        print("nginx:")
        for line in plan["nginx"].splitlines():
            print(safe(f"  {line}"))
    sys.stdout.flush()
    for problem in plan["problems"]:
        print(safe(problem), file=sys.stderr)
    if plan["error"]:
        print(safe(f"jlabctl: {plan['error']}"), file=sys.stderr)
    if not plan["ok"]:
        print(f"jlabctl: {_what_became_of_it(plan)}", file=sys.stderr)


def _what_became_of_it(plan: dict[str, Any]) -> str:
    if plan["refused"]:
        return "nothing was changed"
    return "what the files with these problems define stays as it was; the rest is in force"


def _summary(plan: dict[str, Any]) -> Iterator[str]:
    if plan["refused"]:
        return
    for name in plan["added"]:
        yield f"added: {name}"
    for name, keys in plan["changed"].items():
        yield f"changed: {name} ({', '.join(keys)})"
    for name in plan["removed"]:
        yield f"removed: {name}"
    yield f"untouched: {plan['untouched']}"


def reexec(socket: str) -> int:
    """Have the daemon replace itself by the code on disk, and wait until the new one answers."""
    import time

    before = _since_when(socket)
    with Waiting("the replacement of jlabd") as waiting:
        body = request(socket, "POST", "/reexec", {}, timeout=None).read()
        waiting.tell(loads(body)["message"])
        deadline = time.monotonic() + REEXEC_S
        while time.monotonic() < deadline:
            time.sleep(0.1)
            if _since_when(socket) not in {before, ""}:
                waiting.tell("The new one is up.")
                return DONE
    raise CommandError(f"the new jlabd did not answer within {REEXEC_S:g} s; see its log")


def _since_when(socket: str) -> str:
    """Return when the daemon that answers was started, empty if none does just now."""
    try:
        return str(loads(request(socket, "GET", "/status").read())["started_at"])
    except UnreachableError:
        return ""


def url(socket: str, name: str, *, token: bool) -> int:
    """Print the address of an instance, or a link that logs in."""
    body = request(socket, "GET", f"/url/{quote(name)}{'?token=1' if token else ''}").read()
    print(safe(loads(body)["url"]))
    return DONE


def passwd(socket: str, name: str | None, *, from_stdin: bool) -> int:
    """Print the hash of a new password, or have the daemon put it in place for an instance."""
    password_hash = new_hash(from_stdin=from_stdin)
    if name is None:
        print(password_hash)
        return DONE
    with Waiting("the change of the password"):
        body = request(socket, "POST", "/passwd", {"name": name, "password_hash": password_hash}, timeout=None).read()
    print(safe(loads(body)["message"]))
    return DONE


def new_hash(*, from_stdin: bool) -> str:
    """Return the hash of a password that is asked for, or read from stdin. Raises CommandError."""
    return _hash(_password_from_stdin() if from_stdin else _password_asked_for())


def _password_from_stdin() -> str:
    try:
        line = sys.stdin.buffer.readline().decode()
    except UnicodeDecodeError:
        raise CommandError("the password is not UTF-8; nothing was changed") from None
    return _acceptable(line.removesuffix("\n").removesuffix("\r"))


def _password_asked_for() -> str:
    import warnings
    from getpass import GetPassWarning, getpass

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", GetPassWarning)
            password = _acceptable(getpass("New password: "))
            again = getpass("Once more: ")
    except GetPassWarning:
        raise CommandError("there is no terminal to ask for the password on; say --stdin") from None
    except EOFError:
        raise CommandError("no password was entered") from None
    if password != again:
        raise CommandError("the two passwords differ; nothing was changed")
    return password


def _acceptable(password: str) -> str:
    if not password:
        raise CommandError("an empty password is refused; nothing was changed")
    return password


def _hash(password: str) -> str:
    from jlabd.jupyter.passwords import hash_password

    return hash_password(password)


def check(path: str | None) -> int:
    """Become `jlabd --check`."""
    return _become("jlabd.main", "--check", *(("--config", path) if path else ()))


def doctor(socket: str | None, words: Sequence[str]) -> int:
    """Become the doctor, with the options in `words`; `socket` if one was asked for."""
    return _become("jlabd.doctor", *words, *(("--socket", socket) if socket else ()))


def import_files(files: Sequence[str], name: str | None) -> int:
    """Become the program that prints what `files` come to as configuration."""
    return _become("jlabd.config.importers", *(("--name", name) if name is not None else ()), "--", *files)


def install(words: Sequence[str]) -> int:
    """Become what writes the units, with the options in `words`."""
    return _become("jlabd.install", *words)


def _become(module: str, *words: str) -> int:
    """Go on as another program of ours, in a fresh interpreter."""
    sys.stdout.flush()
    os.execv(sys.executable, own_program("jlabd.ctl.program", module, *words))  # noqa: S606  (no shell is wanted)
