"""What the command knows of the terminal that it writes to."""

from __future__ import annotations

import os
import sys


def columns() -> int | None:
    """Return the width of the terminal on stdout; None when stdout is none."""
    if not sys.stdout.isatty():
        return None
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except OSError:
        return None


def colour(*, allowed: bool) -> bool:
    """Return whether to use colours: on a terminal that can, unless the user said no (https://no-color.org)."""
    return (
        allowed and sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    )


def progress(sentence: str) -> None:
    """Tell a person who watches how it goes."""
    if sys.stderr.isatty():
        print(sentence, file=sys.stderr, flush=True)
