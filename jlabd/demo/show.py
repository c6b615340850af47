"""The demo's words. A closed terminal or a reader that has gone must not keep the demo from ending cleanly."""

from __future__ import annotations

import contextlib
import sys


def say(text: str) -> None:
    """Print a line at once, in place of any progress."""
    with contextlib.suppress(OSError):
        print(f"{_over()}{text}", flush=True)


def progress(text: str) -> None:
    """Say how far it is, on a terminal only, in a line that the next words replace."""
    if sys.stdout.isatty():
        with contextlib.suppress(OSError):
            print(f"{_over()}{text}", end="", flush=True)


def _over() -> str:
    return "\r\x1b[K" if sys.stdout.isatty() else ""
