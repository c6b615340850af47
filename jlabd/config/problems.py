"""What is wrong with a configuration: where, which key, and what would be right.

A message never holds a secret: the values of passwords, environment variables and arguments are not shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

Key = tuple[str | int, ...]
"""Where a value stands: names of tables and keys, and numbers of items from 0."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 80
_SHOWN_BITS = 256


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; `line` and `key` are None and empty when the whole file is meant."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(Exception):
    """The configuration cannot be used; `problems` says why, all of it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def dotted(key: Key) -> str:
    """Return `key` as TOML writes it, items of a list as `[n]`."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += "." * bool(text) + (part if _BARE.fullmatch(part) else json.dumps(part))
    return text


def shown(value: object) -> str:
    """Return `value` for a message: on one line, escaped and not too long."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "a table"
        case list():
            return "a list"
        case str() if len(value) > _SHOWN:
            return repr(value[:_SHOWN]) + "…"
        case str():
            return repr(value)
        case _:
            return "this number" if isinstance(value, int) and value.bit_length() > _SHOWN_BITS else str(value)
