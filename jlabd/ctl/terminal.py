"""What the command knows of the terminal that it writes to."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def columns(stream: TextIO | None = None) -> int | None:
    """Return the width of the terminal on `stream` (None: stdout); None when it is none."""
    return _extent(stream or sys.stdout, "COLUMNS", 0)


def lines(stream: TextIO | None = None) -> int | None:
    """Return the height of the terminal on `stream` (None: stdout); None when it is none."""
    return _extent(stream or sys.stdout, "LINES", 1)


def _extent(stream: TextIO, variable: str, which: int) -> int | None:
    if not stream.isatty():
        return None
    wanted = os.environ.get(variable, "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    try:
        return os.get_terminal_size(stream.fileno())[which] or None
    except OSError:
        return None


def colour(*, allowed: bool) -> bool:
    """Return whether to use colours: on a terminal that can, unless the user said no (https://no-color.org)."""
    return allowed and not os.environ.get("NO_COLOR") and can_rewrite(sys.stdout)


def can_rewrite(stream: TextIO) -> bool:
    """Return whether what was written to `stream` can be written over: whether it is a terminal that knows how."""
    return stream.isatty() and os.environ.get("TERM") not in {None, "", "dumb"}
