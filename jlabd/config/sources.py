"""Reading one TOML file: its bytes, its tables, and where each key stands."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jlabd.config.positions import key_lines, line_of
from jlabd.config.problems import ConfigError, Key, Problem, dotted

Raw = dict[str, Any]
"""A table as `tomllib` gives it."""

_LARGEST = 64 * 1024 * 1024
_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$| \(at end of document\)$")
_TWICE = re.compile(r"Cannot (?:declare|overwrite)")
_HEADER = re.compile(r"\s*\[([^\[\]]+)\]")


@dataclass(slots=True)
class Source:
    """One file that could be read. The lines of its keys are looked for when the first is asked for."""

    file: str
    tables: Raw
    text: str = field(repr=False)
    _lines: dict[Key, int] | None = field(default=None, repr=False)

    def line(self, key: Key) -> int | None:
        """Return the line of `key`, or of the nearest table around it."""
        if self._lines is None:
            self._lines = key_lines(self.text)
        return line_of(self._lines, key)

    def problem(self, key: Key, message: str) -> Problem:
        """Return a problem with `key` of this file."""
        # Numbers of items that the file does not have come from a single text that stands for a list.
        there = depth(self.tables, key)
        written = tuple(part for n, part in enumerate(key) if n < there or isinstance(part, str))
        return Problem(self.file, self.line(written), dotted(written), message)


def depth(values: Any, key: Key) -> int:
    """Return how many parts of `key` exist in `values`."""
    for n, part in enumerate(key):
        match values:
            case dict() if part in values:
                values = values[part]
            case list() if isinstance(part, int) and part < len(values):
                values = values[part]
            case _:
                return n
    return len(key)


def read_source(path: Path, *, uid: int, included: bool) -> Source:
    """Read and parse the file at `path` for a daemon of user `uid`. Raises ConfigError.

    What root obeys must not be written by others: for uid 0 no file may be world-writable, and an included one must
    belong to root.
    """
    try:
        data = _read(path, uid=uid, included=included)
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror or error}") from None
    return parse_source(path, data)


def _read(path: Path, *, uid: int, included: bool) -> bytes:
    # Not blocking: a FIFO in the folder must not stop the daemon.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if wrong := _distrust(os.fstat(descriptor), uid=uid, included=included):
            raise _unusable(path, wrong)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(_LARGEST)
    finally:
        os.close(descriptor)


def _distrust(status: os.stat_result, *, uid: int, included: bool) -> str | None:
    """Return why a file with `status` is not read, or None."""
    if stat.S_ISDIR(status.st_mode):
        return "is a folder, not a file"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_size >= _LARGEST:
        return "is larger than any configuration, 64 MiB"
    if uid == 0 and status.st_mode & stat.S_IWOTH:
        return "can be written by everybody and the daemon runs as root; run chmod o-w on it"
    if uid == 0 and included and status.st_uid != 0:
        return "belongs to another user and the daemon runs as root; run chown root on it"
    return None


def parse_source(path: Path, data: bytes) -> Source:
    """Parse the content of the file at `path`. Raises ConfigError."""
    text = _decoded(path, data)
    try:
        return Source(str(path), tomllib.loads(text), text)
    except RecursionError:
        raise _unusable(path, "is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and what Python says about enormous numbers
        raise ConfigError([_syntax_problem(path, text, error)]) from None


def _decoded(path: Path, data: bytes) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise _unusable(path, "begins with a byte order mark, save it as UTF-8 without one", line=1)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unusable(path, "is not UTF-8 here, save the file as UTF-8", line=line) from None


def _unusable(path: Path, message: str, *, line: int | None = None) -> ConfigError:
    return ConfigError([Problem(str(path), line, "", message)])


def _syntax_problem(path: Path, text: str, error: ValueError) -> Problem:
    if not isinstance(error, tomllib.TOMLDecodeError):
        return Problem(str(path), None, "", "holds a number that is far too large")
    found = _PLACE.search(str(error))
    message = _PLACE.sub("", str(error))
    line = int(found[1]) if found and found[1] else text.rstrip("\n").count("\n") + 1
    if _TWICE.match(message) and (twice := _defined_twice(text, line)):
        return Problem(str(path), line, *twice)
    column = f" at column {found[2]}" if found and found[2] else " at the end of the file"
    hint = ', write texts in quotes: user = "alice"' if message == "Invalid value" else ""
    return Problem(str(path), line, "", f"is not TOML: {message[:1].lower()}{message[1:]}{column}{hint}")


def _defined_twice(text: str, line: int) -> tuple[str, str] | None:
    """Return key and message for the second definition that begins in `line`."""
    lines = text.split("\n")
    written = lines[line - 1]
    before = key_lines("\n".join(lines[: line - 1]))
    last = list(key_lines(written if _HEADER.match(written) else _last_header(lines[: line - 1]) + "\n" + written))
    first = before.get(last[-1]) if last else None
    return None if first is None else (dotted(last[-1]), f"is defined twice, first in line {first}; keep one of them")


def _last_header(lines: list[str]) -> str:
    return next((line for line in reversed(lines) if _HEADER.match(line)), "")
