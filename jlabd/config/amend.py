"""Adding instances to a configuration file and removing them, as a careful person with an editor would do it.

A library for editing TOML counts a comment above `[instance.bob]` as the end of the table before it, and would move or
remove it together with that. So tables are added and cut out as lines of text; what comes of it is compared with what
was meant, and where tables are written in some other notation (`instance = { bob = { … } }`) the library does it.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from jlabd.config.accounts import whose_daemon
from jlabd.config.edit import Document, changed, rewrite
from jlabd.config.positions import key_lines
from jlabd.config.problems import ConfigError, Key, Problem, dotted
from jlabd.config.read import own_tables
from jlabd.config.sources import Raw, Source


@dataclass(frozen=True, slots=True)
class Place:
    """Where the table of an instance stands, or stood."""

    file: str
    line: int | None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


def add(main: Path, name: str, values: Raw) -> Place:
    """Add `[instance.NAME]` with `values` to the main file. Raises ConfigError, OSError; then nothing was changed."""
    if name in (tables := own_tables(main, uid=whose_daemon(main))):
        raise _refused(main, f"'{name}' is defined already, at {Place(*tables[name])}")
    rewrite(main, lambda source: _with(source, name, values), uid=whose_daemon(main))
    return Place(*own_tables(main, uid=whose_daemon(main))[name])


def remove(main: Path, name: str) -> Place:
    """Remove `[instance.NAME]` from the file that has it. Raises ConfigError, OSError; then nothing was changed."""
    tables = own_tables(main, uid=whose_daemon(main))
    if (found := tables.get(name)) is None:
        near = difflib.get_close_matches(name, tables, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise _refused(main, f"no file has a table [{dotted(('instance', name))}]{hint}")
    rewrite(Path(found[0]), lambda source: _without(source, name), main=main, uid=whose_daemon(main))
    return Place(*found)


def _with(source: Source, name: str, values: Raw) -> str:
    """Return the text of `source` with the new table at its end."""
    text = source.text
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = [f"[{dotted(('instance', name))}]", *(f"{dotted((key,))} = {written(values[key])}" for key in values)]
    gap = newline * (2 - (text == "" or text.endswith("\n")) - (text == "" or text.endswith(newline * 2)))
    longer = text + gap + newline.join(lines) + newline

    def change(document: Document) -> None:
        document.setdefault("instance", {})[name] = values

    return longer if _means(longer, source, change) else changed(source, change)


def written(value: Any) -> str:
    """Return `value` as TOML, on one line."""
    if isinstance(value, dict):
        settings = ", ".join(f"{dotted((key,))} = {written(below)}" for key, below in value.items())
        return f"{{ {settings} }}"
    return str(tomlkit.item(value).as_string())


def _without(source: Source, name: str) -> str:
    """Return the text of `source` without the table, its comments, and one of the gaps around it."""

    def change(document: Document) -> None:
        del document["instance"][name]

    shorter = _cut_out(source.text, ("instance", name))
    return shorter if _means(shorter, source, change) else changed(source, change)


def _means(text: str, source: Source, change: Any) -> bool:
    """Return whether `text` says what `source` says after `change`; a table of no instances is as good as none."""
    expected = tomllib.loads(source.text)
    try:
        change(expected)
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, AttributeError, TypeError):
        return False
    for tables in (expected, found):
        if tables.get("instance") == {}:
            del tables["instance"]
    return found == expected


def _cut_out(text: str, table: Key) -> str:
    """Return `text` without the lines of `table`, wherever they stand."""
    lines = text.split("\n")
    places = {key: line for key, line in key_lines(text).items() if not any(isinstance(part, int) for part in key)}
    own = {line for key, line in places.items() if key[: len(table)] == table}
    foreign = {line for key, line in places.items() if key[: len(table)] != table and key != table[: len(key)]}
    for first, last in reversed(_runs(own, foreign)):
        end = _end_of_value(lines, last, min((line for line in foreign if line > last), default=len(lines) + 1))
        _cut(lines, _with_comments_above(lines, first), _with_comments_below(lines, end))
    return "\n".join(lines)


def _runs(own: set[int], foreign: set[int]) -> list[tuple[int, int]]:
    """Return the first and last of `own` lines that no `foreign` line separates."""
    runs: list[tuple[int, int]] = []
    for line in sorted(own):
        if runs and not any(runs[-1][1] < other < line for other in foreign):
            runs[-1] = (runs[-1][0], line)
        else:
            runs.append((line, line))
    return runs


def _end_of_value(lines: list[str], start: int, before: int) -> int:
    """Return the last line of what begins in line `start`; a value may go over several lines."""
    for end in range(start, before):
        try:
            tomllib.loads("\n".join(lines[start - 1 : end]))
        except tomllib.TOMLDecodeError:
            continue
        return end
    return before - 1


def _with_comments_above(lines: list[str], first: int) -> int:
    """Return the line where the comments directly above line `first` begin; those of the whole file stay."""
    top = first
    while top > 1 and _is_comment(lines[top - 2]):
        top -= 1
    return top if top > 1 and _is_blank(lines[top - 2]) else first


def _with_comments_below(lines: list[str], last: int) -> int:
    """Return the line where the comments directly below line `last` end; those of a next table stay."""
    bottom = last
    while bottom < len(lines) and _is_comment(lines[bottom]):
        bottom += 1
    return bottom if bottom == len(lines) or _is_blank(lines[bottom]) else last


def _cut(lines: list[str], first: int, last: int) -> None:
    """Remove lines, and the blank ones after them if there are such before them too."""
    above_is_open = first == 1 or _is_blank(lines[first - 2])
    while above_is_open and last < len(lines) - 1 and _is_blank(lines[last]):
        last += 1
    if last >= len(lines) - 1:  # at the end of the file
        while first > 1 and _is_blank(lines[first - 2]):
            first -= 1
    del lines[first - 1 : last]


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _is_blank(line: str) -> bool:
    return not line.strip()


def _refused(file: Path, message: str) -> ConfigError:
    return ConfigError([Problem(str(file), None, "", message)])
