"""What a person sees while a command waits: on a terminal a line that counts the seconds, elsewhere nothing."""

from __future__ import annotations

import os
import sys

from jlabd.ctl import terminal
from jlabd.ctl.text import safe, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

TICK_S = 1.0
"""What takes less than this is not worth a line."""
_CLEAR = "\r\x1b[K"


class Waiting:
    """For `with`: while `what`, like "the start of alice", is waited for.

    Ctrl-C ends the waiting only, which is said: the daemon does what it was asked to do all the same.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._seconds = 0
        self._counts = terminal.can_rewrite(sys.stderr)

    def say(self, sentence: str) -> None:
        """Tell a person who watches how it goes, above the line."""
        if sys.stderr.isatty():
            self._write(f"{safe(sentence)}\n")
            if self._seconds:
                self._show()

    def tell(self, sentence: str) -> None:
        """Print what belongs to the command's output."""
        self._count(0)
        if self._seconds:
            self._write("")
        print(safe(sentence), flush=True)
        self._count(TICK_S)

    def __enter__(self) -> Self:
        if self._counts:
            import signal

            # A blocking read goes on by itself after the handler.
            signal.signal(signal.SIGALRM, self._tick)
            self._count(TICK_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count(0)
        if self._seconds:
            self._write("")
        if isinstance(error, KeyboardInterrupt):
            print(
                f"jlabctl: no longer waiting; {safe(self._what)} goes on, `jlabctl status` shows how", file=sys.stderr
            )

    def _count(self, every_s: float) -> None:
        if self._counts:
            import signal

            signal.setitimer(signal.ITIMER_REAL, every_s, every_s)

    def _tick(self, _signal: int, _frame: FrameType | None) -> None:
        self._seconds += 1
        self._show()

    def _show(self) -> None:
        text = f"waiting for {self._what} ({self._seconds} s)"
        self._write(shorten(safe(text), (terminal.columns(sys.stderr) or 80) - 1))

    def _write(self, text: str) -> None:
        """Write in one piece, not by `print`: a signal's handler may come in the middle of it."""
        clear = _CLEAR if self._counts and self._seconds else ""
        os.write(sys.stderr.fileno(), f"{clear}{text}".encode(errors="replace"))
