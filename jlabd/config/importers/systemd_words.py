"""Words of systemd's command lines and lists: its own quoting, escapes, specifiers and variables. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from jlabd.config.importers.commandline import Riddle
from jlabd.config.importers.findings import Place, quoted

_LONGEST = 64 * 1024
_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "s": " ",
}
_CODE = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})")
_SPECIFIER = re.compile(r"%(.)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def split(text: str, place: Place) -> list[str]:
    """Return the words of `text`. Raises ImportFailedError for a quotation mark that is not closed."""
    if len(text) > _LONGEST:
        raise place.failed("the line is longer than systemd takes")
    return list(_words(text, place))


def _words(text: str, place: Place) -> Iterator[str]:
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        word, quote = "", ""
        while at < len(text) and (quote or not text[at].isspace()):
            character = text[at]
            at += 1
            if quote and character == quote:
                quote = ""
            elif not quote and character in "'\"":
                quote = character
            elif character == "\\":
                piece, at = _escape(text, at)
                word += piece
            else:
                word += character
        if quote:
            raise place.failed(f"a quotation mark ({quote}) is not closed")
        yield word


def _escape(text: str, at: int) -> tuple[str, int]:
    """Return what the escape behind a backslash stands for, and where it ends; unknown ones stay."""
    if found := _CODE.match(text, at):
        code = int(found[1] or found[2] or found[3] or found[4], 8 if found[4] else 16)
        return (chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else ""), found.end()
    if text[at : at + 1] in _ESCAPES:
        return _ESCAPES[text[at]], at + 1
    return "\\", at


def specified(text: str, specifiers: Mapping[str, str]) -> str:
    """Fill in `%i` and the like; what is not known stays."""

    def fill(found: re.Match[str]) -> str:
        return "%" if found[1] == "%" else specifiers.get(found[1], found[0])

    return _SPECIFIER.sub(fill, text)


def unknown_specifier(text: str, specifiers: Mapping[str, str]) -> str:
    """Return the first specifier that cannot be filled in, or nothing."""
    return next((f[0] for f in _SPECIFIER.finditer(text) if f[1] != "%" and f[1] not in specifiers), "")


def with_variables(words: list[str], variables: Mapping[str, str]) -> Iterator[str]:
    """Yield the words of a command with `$NAME` and `${NAME}` filled in; a riddle where the value is not known.

    A word that is `$NAME` alone becomes as many words as the value has.
    """
    for number, word in enumerate(words):
        alone = re.fullmatch(r"\$([A-Za-z_][A-Za-z0-9_]*)", word)
        if number and alone and alone[1] in variables:
            yield from variables[alone[1]].split()
            continue
        names = [found[1] or found[2] for found in _VARIABLE.finditer(word) if found[0] != "$$"]
        if any(name not in variables for name in names):
            yield Riddle(word)
        else:
            yield _VARIABLE.sub(lambda f: "$" if f[0] == "$$" else variables[f[1] or f[2]], word)


def shown(key: str, value: str) -> str:
    """Return a line of a unit for a comment."""
    return quoted(f"{key}={value}")
