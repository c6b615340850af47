"""The line of each key of a TOML document, which `tomllib` does not tell.

The scanner trusts that `tomllib` has accepted the text (or the text before a mistake): it finds keys, it does not
judge. On anything that it does not understand it stops, and what it found so far counts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress

from jlabd.config.problems import Key

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


class _NotUnderstoodError(Exception):
    """The text is not TOML here."""


def key_lines(text: str) -> dict[Key, int]:
    """Map each key path of `text`, items of lists by number, to its line, the first being 1."""
    scanner = _Scanner(text)
    with suppress(_NotUnderstoodError, RecursionError):
        scanner.document()
    return scanner.lines


def line_of(lines: dict[Key, int], key: Key) -> int | None:
    """Return the line of `key`, or of the nearest table around it."""
    return next((lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in lines), None)


class _Scanner:
    """Walks over one text, once; `lines` grows."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Key, int] = {}
        self._text = text
        self._at = 0
        self._line = 1
        self._items: dict[Key, int] = {}
        """Number of the current item of each array of tables."""

    def document(self) -> None:
        """Read headers and settings to the end."""
        table: Key = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._peek("["):
                table = self._header()
            else:
                self._setting(table)
            self._skip(_BLANK)

    def _header(self) -> Key:
        brackets = 2 if self._peek("[[") else 1
        self._take("[" * brackets)
        line = self._line
        *parents, last = list(self._dotted_key())
        self._take("]" * brackets)
        table: Key = ()
        for part in parents:
            table = self._enter((*table, part), line)
        if brackets == 1:
            table = (*table, last)
            # A header beats the mention of its name in `[a.b]` before it.
            self.lines[table] = line
            return table
        return self._next_item((*table, last), line)

    def _enter(self, table: Key, line: int) -> Key:
        """Return `table`, or its current item if it is an array of tables."""
        self.lines.setdefault(table, line)
        return (*table, self._items[table]) if table in self._items else table

    def _next_item(self, array: Key, line: int) -> Key:
        self._items[array] = self._items.get(array, -1) + 1
        self.lines.setdefault(array, line)
        item = (*array, self._items[array])
        self.lines[item] = line
        return item

    def _setting(self, table: Key) -> None:
        """Read `dotted.key = value`."""
        key = table
        for part in self._dotted_key():
            key = (*key, part)
            self.lines.setdefault(key, self._line)
        self._take("=")
        self._skip(_SPACE)
        self._value(key)

    def _value(self, key: Key) -> None:
        if self._peek("["):
            self._array(key)
        elif self._peek("{"):
            self._inline_table(key)
        elif self._skip(_STRING) or self._skip(_SCALAR):
            return
        else:
            raise _NotUnderstoodError

    def _array(self, key: Key) -> None:
        self._take("[")
        number = 0
        self._skip(_BLANK)
        while not self._peek("]"):
            self.lines[(*key, number)] = self._line
            self._value((*key, number))
            number += 1
            self._separator()
        self._take("]")

    def _inline_table(self, key: Key) -> None:
        self._take("{")
        self._skip(_BLANK)
        while not self._peek("}"):
            self._setting(key)
            self._separator()
        self._take("}")

    def _separator(self) -> None:
        self._skip(_BLANK)
        if self._peek(","):
            self._take(",")
            self._skip(_BLANK)

    def _dotted_key(self) -> Iterator[str]:
        yield self._key_part()
        while self._peek("."):
            self._take(".")
            yield self._key_part()

    def _key_part(self) -> str:
        self._skip(_SPACE)
        token = self._skip(_STRING) or self._skip(_BARE_KEY)
        self._skip(_SPACE)
        if token[:1] == '"':
            return _unescaped(token)
        if token[:1] == "'":
            return token[1:-1]
        if not token:
            raise _NotUnderstoodError
        return token

    def _peek(self, token: str) -> bool:
        return self._text.startswith(token, self._at)

    def _take(self, token: str) -> None:
        if not self._peek(token):
            raise _NotUnderstoodError
        self._at += len(token)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        """Go past what `pattern` matches here, counting lines, and return it."""
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        self._line += found[0].count("\n")
        return found[0]


def _unescaped(token: str) -> str:
    try:
        value = tomllib.loads(f"key = {token}")["key"]
    except tomllib.TOMLDecodeError as error:
        raise _NotUnderstoodError from error
    return str(value)
