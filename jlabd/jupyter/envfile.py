"""Files of environment variables, in the format of systemd's EnvironmentFile=."""

from __future__ import annotations

import os
import re

from jlabd.jupyter.adminfile import AdminFileError, read_admin_file

MAX_BYTES = 256 * 1024

_COMMENT = re.compile(r"[ \t]*(?:[#;][^\n]*)?(?:\n|\Z)")
_NAME = re.compile(r"[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_SINGLE = re.compile(r"'([^']*)'[ \t]*")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"[ \t]*', re.DOTALL)
_PLAIN = re.compile(r"""((?:[^'"\\\n \t]|\\.)(?:[^\\\n \t]|\\.|[ \t]+(?=[^ \t\n]))*)[ \t]*""", re.DOTALL)
_END = re.compile(r"\n|\Z")


def read_env_file(path: str) -> dict[str, str]:
    """Return the variables in the file `path`, which must belong to root or to the daemon's own account.

    Blocks for the time of a small read. Raises AdminFileError with a sentence.
    """
    return parse(read_admin_file(path, {0, os.geteuid()}, MAX_BYTES), path)


def parse(text: str, path: str) -> dict[str, str]:
    """Return the variables that `text`, the content of `path`, sets. Raises AdminFileError with the line."""
    if "\0" in text:
        raise AdminFileError(f"{path}: holds a zero byte")
    text = text.replace("\r\n", "\n")
    variables: dict[str, str] = {}
    at = 0
    while at < len(text):
        if match := _COMMENT.match(text, at):
            at = match.end()
            continue
        match = _NAME.match(text, at)
        if match is None:
            raise AdminFileError(f"{path}:{_line(text, at)}: not KEY=VALUE")
        variables[match[1]], at = _value(text, match.end(), path)
    return variables


def _value(text: str, at: int, path: str) -> tuple[str, int]:
    """Return the value that begins at `at`, and where the next line begins. Raises AdminFileError."""
    parts: list[str] = []
    start = at
    while not (end := _END.match(text, at)):
        if match := _SINGLE.match(text, at):
            parts.append(match[1])
        elif match := _DOUBLE.match(text, at):
            parts.append(re.sub(r'\\(["\\`$])|\\\n', _kept, match[1]))
        elif match := _PLAIN.match(text, at):
            parts.append(re.sub(r"\\(.)|\\\n", _kept, match[1]))
        else:
            raise AdminFileError(f"{path}:{_line(text, start)}: a quotation mark is not closed")
        at = match.end()
    return "".join(parts), end.end()


def _kept(escape: re.Match[str]) -> str:
    """Return what remains of a backslash and what follows it: that character, or nothing of a line's end."""
    return escape[1] or ""


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
