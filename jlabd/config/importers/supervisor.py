"""Supervisor's configuration: one part for each process of each program. Pure."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jlabd.config.importers import shell
from jlabd.config.importers.commandline import Riddle
from jlabd.config.importers.findings import Fact, Finding, Given, Kind, Part, Place, Remark, quoted
from jlabd.config.importers.ini import Line, supervisor_lines

_MOST_PROCESSES = 500
_LONGEST = 64 * 1024
_DIGITS = 7
_PATIENCE_S = 60
_EXPANSION = re.compile(r"%(?:%|\(([A-Za-z0-9_]+)\)(0?[0-9]?)([sd]))")
_UNKNOWN = re.compile(r"%\([A-Za-z0-9_]+\)0?[0-9]?[sd]")
_PAIR = re.compile(r"""\s*([^\s=,"']+)\s*=\s*("[^"]*"|'[^']*'|[^,"']*)\s*(?:,|\Z)""")
_TREE = "jlabd always ends the whole tree: kernels and terminals too"
_LOGS = "jlabd keeps the lab's output: jlabctl logs NAME; log has max_size and keep"
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

LEFT_OUT = {
    "stopasgroup": _TREE,
    "killasgroup": _TREE,
    "startsecs": "jlabd waits until the lab answers (ready.timeout), which tells more than a number of seconds",
    "exitcodes": "jlabd takes 0 for an intended end and all else for a failure",
    "priority": "instances start side by side",
    "redirect_stderr": _LOGS,
    "serverurl": "the lab has no use for Supervisor's address",
    "process_name": "the instance's name was made from it",
    "numprocs": "each process became an instance of its own",
    "numprocs_start": "each process became an instance of its own",
}
_STOP = {
    "INT": "JupyterLab would end without its kernels and leave them behind; jlabd sends TERM",
    "KILL": "JupyterLab could not end its kernels in good order; jlabd sends TERM, and KILL when stop.timeout is over",
}


def stop_signal(name: str, place: Place, what: str) -> Iterator[Finding]:
    """Yield what a stop signal means, in Supervisor's words or systemd's."""
    short = name.upper().removeprefix("SIG")
    if why := _STOP.get({"2": "INT", "9": "KILL"}.get(short, short)):
        yield Remark(place, what, why)
    elif short not in {"TERM", "15"}:
        yield Fact(("stop", "signal"), short, place)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file of Supervisor's says, and which other files it wants."""

    parts: tuple[Part, ...] = ()
    remarks: tuple[Remark, ...] = ()
    includes: tuple[tuple[Place, str], ...] = ()
    """Patterns of files, absolute."""


def read(given: Given) -> Reading:
    """Return what the file says. Raises ImportFailedError."""
    sections: dict[str, list[Line]] = {}
    for line in supervisor_lines(given):
        sections.setdefault(line.section, []).append(line)
    common = _common(sections.get("supervisord", []))
    parts = [
        part
        for section, lines in sections.items()
        if section.startswith("program:")
        for part in _program(section.removeprefix("program:").strip(), lines, common, given)
    ]
    return Reading(tuple(parts), tuple(_others(sections)), tuple(_includes(sections.get("include", []), given)))


def _common(lines: Sequence[Line]) -> list[Finding]:
    """Return what `[supervisord]` says for all programs."""
    found: list[Finding] = []
    for line in lines:
        if line.key == "environment":
            found += environment(line.value, line.place)
        elif line.key == "user":
            found.append(Fact(("user",), line.value, line.place))
        elif line.key == "umask":
            found.append(Fact(("umask",), line.value.zfill(4), line.place))
        elif line.key == "minfds" and line.value.isdigit() and len(line.value) < 12:
            found.append(Fact(("limits", "open_files"), int(line.value), line.place))
    return found


def _others(sections: Mapping[str, Sequence[Line]]) -> Iterator[Remark]:
    for section, lines in sections.items():
        if section.startswith(("group:", "eventlistener:", "fcgi-program:")):
            yield Remark(lines[0].place, f"[{quoted(section)}]", "jlabd has instances only, each for itself")


def _includes(lines: Sequence[Line], given: Given) -> Iterator[tuple[Place, str]]:
    for line in lines:
        if line.key == "files":
            here = posixpath.dirname(given.path)
            for pattern in line.value.split():
                yield line.place, posixpath.join(here, pattern.replace("%(here)s", here))


def _program(name: str, lines: Sequence[Line], common: Sequence[Finding], given: Given) -> Iterator[Part]:
    values = {line.key: line for line in lines}
    count, first = _whole(values.get("numprocs"), 1), _whole(values.get("numprocs_start"), 0)
    if count > _MOST_PROCESSES:
        raise values["numprocs"].place.failed(
            f"{count} processes of one program are not imported, at most {_MOST_PROCESSES}"
        )
    for number in range(first, first + count):
        words = {
            "program_name": name,
            "group_name": name,
            "process_num": str(number),
            "numprocs": str(count),
            "here": posixpath.dirname(given.path),
        }
        process = _expanded(values["process_name"].value, words) if "process_name" in values else name
        if count > 1 and "process_name" not in values:
            process = f"{name}_{number:02d}"
        # What the command does in a shell, it does in the program's folder and environment.
        ordered = sorted(values.values(), key=lambda line: line.key == "command")
        findings = [*common, *_lines(ordered, words)]
        yield Part(Kind.SUPERVISOR, given.at(lines[0].place.line), process, findings, given.owner)


def _whole(line: Line | None, default: int) -> int:
    if line is None:
        return default
    if not line.value.isdigit() or len(line.value) > 6:
        raise line.place.failed(f"{line.key} = {quoted(line.value)} is not a number")
    return int(line.value)


def _expanded(text: str, words: Mapping[str, str]) -> str:
    """Fill in `%(…)s`; what is not known stays."""

    def fill(found: re.Match[str]) -> str:
        if found[1] is None:
            return "%"
        value = words.get(found[1])
        if value is None:
            return found[0]
        width = int(found[2] or 0)
        return value.rjust(width, "0" if found[2].startswith("0") else " ")

    return _EXPANSION.sub(fill, text)


def _lines(lines: Iterable[Line], words: Mapping[str, str]) -> Iterator[Finding]:
    for line in lines:
        value = _expanded(line.value, words)
        unknown = [found[0] for found in _EXPANSION.finditer(line.value) if found[1] and found[1] not in words]
        if unknown and line.key not in {"stdout_logfile", "stderr_logfile"}:
            what = f"{line.key} = {quoted(line.value)}"
            if line.key != "command":  # whose words speak for themselves
                yield Remark(line.place, what, f"{unknown[0]} comes from elsewhere; write what it stands for")
                continue
        yield from _line(Line(line.section, line.key, value, line.place))


def _line(line: Line) -> Iterator[Finding]:
    """Yield what one key means."""
    if meaning := _MEANINGS.get(line.key):
        yield from meaning(line)
    elif line.key.startswith(("stdout_", "stderr_")):
        yield Remark(line.place, _shown(line), _LOGS)
    else:
        yield Remark(line.place, _shown(line), LEFT_OUT.get(line.key, "jlabd has nothing like it"))


def _shown(line: Line) -> str:
    return f"{line.key} = {quoted(line.value)}"


def _as(*key: str) -> Callable[[Line], Iterator[Finding]]:
    """Return a meaning: the value as it is, for `key`."""
    return lambda line: iter((Fact(key, line.value, line.place),))


def _umask(line: Line) -> Iterator[Finding]:
    yield Fact(("umask",), line.value.zfill(4), line.place)


def _autostart(line: Line) -> Iterator[Finding]:
    if not _FLAGS.get(line.value.lower(), True):
        yield Fact(("autostart",), False, line.place)


def _startsecs(line: Line) -> Iterator[Finding]:
    if line.value.isdigit() and int(line.value[:9]) > _PATIENCE_S:
        yield Fact(("ready", "timeout"), f"{line.value}s", line.place)
    else:
        yield Remark(line.place, _shown(line), LEFT_OUT["startsecs"])


def _startretries(line: Line) -> Iterator[Finding]:
    if line.value.isdigit() and len(line.value) < _DIGITS:
        note = f"startretries = {line.value}, and the first start counts"
        yield Fact(("restart", "give_up_after"), int(line.value) + 1, line.place, note)
    else:
        yield Remark(line.place, _shown(line), "it is not a number")


def _stopwaitsecs(line: Line) -> Iterator[Finding]:
    if line.value.isdigit():
        yield Fact(("stop", "timeout"), f"{line.value}s", line.place)
    else:
        yield Remark(line.place, _shown(line), "it is not a number of seconds")


def _log_size(line: Line) -> Iterator[Finding]:
    if line.value.strip("0"):
        yield Fact(("log", "max_size"), re.sub(r"(?i)([KMG])B", r"\1", line.value), line.place)
    else:
        yield Remark(
            line.place, _shown(line), "a log that is never cut fills the disk; log.max_size says when jlabd does it"
        )


def _log_backups(line: Line) -> Iterator[Finding]:
    if line.value.isdigit() and len(line.value) < _DIGITS:
        yield Fact(("log", "keep"), int(line.value), line.place)
    else:
        yield Remark(line.place, _shown(line), "it is not a number")


def _autorestart(line: Line) -> Iterator[Finding]:
    value = line.value.lower()
    if value == "unexpected":
        yield Fact(("restart", "policy"), "on-failure", line.place)
    elif value not in _FLAGS:
        yield Remark(line.place, _shown(line), 'it is neither true, false nor "unexpected"')
    elif not _FLAGS[value]:
        yield Fact(("restart", "policy"), "never", line.place)


_MEANINGS: dict[str, Callable[[Line], Iterator[Finding]]] = {
    "command": lambda line: shell.command(_words(line.value, line.place), line.place),
    "directory": _as("@cwd"),
    "user": _as("user"),
    "environment": lambda line: environment(line.value, line.place),
    "umask": _umask,
    "autostart": _autostart,
    "autorestart": _autorestart,
    "startsecs": _startsecs,
    "startretries": _startretries,
    "stopsignal": lambda line: stop_signal(line.value, line.place, _shown(line)),
    "stopwaitsecs": _stopwaitsecs,
    "stdout_logfile_maxbytes": _log_size,
    "stdout_logfile_backups": _log_backups,
}


def _words(text: str, place: Place) -> list[str]:
    if len(text) > _LONGEST:
        raise place.failed("the command is longer than any command can be")
    try:
        words = shlex.split(text)
    except ValueError:
        raise place.failed("a quotation mark in the command is not closed") from None
    return [Riddle(word) if _UNKNOWN.search(word) else word for word in words]


def environment(text: str, place: Place) -> Iterator[Finding]:
    """Yield the variables in `KEY="value",OTHER=value`."""
    at = 0
    while at < len(text.rstrip()):
        found = _PAIR.match(text, at)
        if found is None:
            yield Remark(place, quoted(f"environment = {text[at:]}"), 'it is not KEY="value",OTHER="value"')
            return
        at = found.end()
        yield Fact(("env", found[1]), found[2].strip().strip("\"'"), place)
