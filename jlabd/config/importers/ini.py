"""Lines of Supervisor's and of systemd's files: sections, keys, values, with their line numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jlabd.config.importers.findings import Given, Place, quoted

_SECTION = re.compile(r"\[([^\]]*)\]\s*(?:[;#].*)?")
_INLINE_COMMENT = re.compile(r"\s[;#]")


@dataclass(frozen=True, slots=True)
class Line:
    """A key and its value."""

    section: str
    key: str
    value: str
    place: Place


def supervisor_lines(given: Given) -> Iterator[Line]:
    """Yield the lines of a file in the format of Python's configparser, as Supervisor sets it up.

    Raises ImportFailedError.
    """
    section, last = "", None
    for number, raw in enumerate(given.text.split("\n"), 1):
        text = _without_comment(raw)
        if not text.strip():
            continue
        if raw[:1].isspace() and last is not None:
            last = Line(last.section, last.key, f"{last.value}\n{text.strip()}", last.place)
            continue
        if last is not None:
            yield last
            last = None
        if found := _SECTION.fullmatch(text.strip()):
            section = found[1].strip()
        else:
            last = _pair(section, text, given.at(number))
    if last is not None:
        yield last


def _without_comment(raw: str) -> str:
    if raw.lstrip()[:1] in {";", "#"}:
        return ""
    found = _INLINE_COMMENT.search(raw)
    return raw[: found.start()] if found else raw


def _pair(section: str, text: str, place: Place) -> Line:
    key, sign, value = text.partition("=")
    if ":" in key or not sign:
        key, sign, value = text.partition(":")
    if not sign or not section:
        raise place.failed(f"{quoted(text)!r} is neither a [section] nor KEY = VALUE in one")
    return Line(section, key.strip().lower(), value.strip(), place)


def systemd_lines(given: Given) -> Iterator[Line]:
    """Yield the lines of a unit or drop-in. Raises ImportFailedError."""
    section = ""
    for number, text in _joined(given.text):
        place = given.at(number)
        if found := _SECTION.fullmatch(text):
            section = found[1]
            continue
        key, sign, value = text.partition("=")
        if not sign or not section:
            raise place.failed(f"{quoted(text)!r} is neither a [Section] nor KEY=VALUE in one")
        yield Line(section, key.strip(), value.strip(), place)


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines that are no comments, joined where one ends in a backslash; comments in between do not count."""
    parts: list[str] = []
    first = 0
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if line[:1] in {"#", ";"} or (not line and not parts):
            continue
        first = first if parts else number
        parts.append(line.removesuffix("\\").rstrip() if line.endswith("\\") else line)
        if not line.endswith("\\"):
            yield first, " ".join(parts)
            parts = []
    if parts:
        yield first, " ".join(parts)
