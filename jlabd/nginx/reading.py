"""What nginx reads: its whole configuration as `nginx -T` prints it, and whether a file of it has changed since."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jlabd.nginx import marks
from jlabd.nginx.command import COMMAND_TIMEOUT_S, CommandRunner, problem
from jlabd.spec import NginxSpec

DUMP_LIMIT = 32 * 1024 * 1024
"""Bytes; a thousand instances are less than two million."""

_TAIL = 64 * 1024
_LINES = 5
"""Lines of the error log that are quoted."""

_FILE = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
_COMPLAINT = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(?:error|crit|alert|emerg)\] \d+#\d+: (.+)")


@dataclass(frozen=True, slots=True)
class Dump:
    """What `nginx -T` printed: the whole configuration as nginx reads it, and where it stands."""

    text: str

    @property
    def files(self) -> frozenset[str]:
        """Every file that nginx reads."""
        return frozenset(_FILE.findall(self.text))

    def directive(self, name: str) -> str | None:
        """Return the arguments of the first simple directive `name`, None if there is none."""
        found = re.search(rf"(?:^|[;{{}}])\s*{re.escape(name)}\s+([^;{{}}#]+);", self.text, re.MULTILINE)
        return found[1].strip() if found else None

    def includes(self, nginx: NginxSpec) -> bool:
        """Say whether our file is among them, by whatever path."""
        ours = entry_path(nginx)
        files = self.files
        return ours in files or marks.host(nginx.config_dir) in self.text or any(_same(ours, path) for path in files)


def _same(ours: str, path: str) -> bool:
    try:
        return path.endswith("/jlabd.conf") and Path(ours).samefile(path)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at what nginx reads now."""

    problem: str
    """Why nginx would not start with it, in a sentence with its own words; empty when it would."""
    dump: Dump | None
    """None if there is a problem, or nginx cannot be asked for one."""

    def includes(self, nginx: NginxSpec) -> bool:
        """Say whether nginx reads our file, as far as that is known."""
        return self.dump is None or self.dump.includes(nginx)


def entry_path(nginx: NginxSpec) -> str:
    """Return the path of the one file that nginx.conf includes."""
    return f"{nginx.config_dir}/jlabd.conf"


def dumping(test_command: Sequence[str]) -> list[str] | None:
    """Turn the command that tests into the one that prints what it tests; None if that is not known."""
    return ["-T" if word == "-t" else word for word in test_command] if "-t" in test_command else None


async def read(run: CommandRunner, nginx: NginxSpec) -> Reading:
    """Let nginx read and test its whole configuration as it lies there."""
    argv = dumping(nginx.test_command)
    result = await run(argv or nginx.test_command, COMMAND_TIMEOUT_S, limit=DUMP_LIMIT)
    if trouble := problem(nginx.test_command, result):
        return Reading(trouble, None)
    return Reading("", Dump(result.output) if argv else None)


Prints = dict[str, tuple[int, ...] | None]
"""By path what changes with a file or folder: None if there is none."""


def foreign_prints(dump: Dump, nginx: NginxSpec) -> Prints:
    """Look at the files that nginx reads beside ours, and at their folders: a new one there may be included."""
    files = [path for path in dump.files if not path.startswith(f"{nginx.config_dir}/")]
    return prints({*files, *map(os.path.dirname, files)})


def prints(paths: Iterable[str]) -> Prints:
    """Look at each of `paths`."""
    return {path: _print(path) for path in paths}


def _print(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  (hundreds of them every few seconds)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode


def complaints(reading: Reading, since: datetime) -> str:
    """Return the last errors that nginx has logged since the local time `since`; empty if there are none, or no log."""
    words = ((reading.dump.directive("error_log") if reading.dump else None) or "").split()
    if not words or not words[0].startswith("/"):
        return ""
    begin = since.strftime("%Y/%m/%d %H:%M:%S")
    found = [line[2] for line in map(_COMPLAINT.fullmatch, _tail(Path(words[0]))) if line and line[1] >= begin]
    return "; ".join(dict.fromkeys(found[-_LINES:]))


def _tail(path: Path) -> list[str]:
    """Return the last lines of a log; its folder may belong to nginx's workers, so not whatever lies there is read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor, not a path)
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return []
            file.seek(max(0, status.st_size - _TAIL))
            return file.read(_TAIL).decode(errors="replace").splitlines()
    except OSError:
        return []
