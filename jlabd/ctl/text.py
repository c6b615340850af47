"""Text for terminals: harmless, of known width, and short. Pure."""

from __future__ import annotations

_SIZES = ("B", "K", "M", "G", "T")


def safe(text: str) -> str:
    """Return `text` on one line and without anything that a terminal would act on (control characters, bidi marks)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_safe_character(c) for c in text)


def _safe_character(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def width(text: str) -> int:
    """Return the number of columns that `text` takes on a terminal."""
    return len(text) if text.isascii() else sum(_width_of(c) for c in text)


def _width_of(character: str) -> int:
    import unicodedata

    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def shorten(text: str, columns: int) -> str:
    """Return `text` in at most `columns` columns, with … where something is missing."""
    if width(text) <= columns:
        return text
    kept, used = "", 1
    for character in text:
        used += width(character)
        if used > columns:
            break
        kept += character
    return kept + "…" if columns > 0 else ""


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Return `text` filled up with spaces to `columns`; `right` puts it at the right end."""
    fill = " " * (columns - width(text))
    return fill + text if right else text + fill


def duration(seconds: float) -> str:
    """Return a time span by its two largest units: "12s", "5min 3s", "3h 12min", "4d 3h"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}min {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole // 60 % 60}min"
    return f"{whole // 86400}d {whole // 3600 % 24}h"


def size(count: int) -> str:
    """Return a number of bytes as "83M" or "1.2G"."""
    amount, unit = float(count), 0
    while amount >= 1000 and unit < len(_SIZES) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f}{_SIZES[unit]}" if unit >= 3 and amount < 100 else f"{amount:.0f}{_SIZES[unit]}"
