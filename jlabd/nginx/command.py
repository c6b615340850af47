"""Running nginx's commands, and what went wrong with them in a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

COMMAND_TIMEOUT_S = 30.0
"""How long nginx may take to test a configuration, or to be told of it."""

NOT_FOUND = 127
_WORDS = 2000
"""Characters of a command's output that an error quotes, from the end: there nginx says what is wrong."""

_WHEN = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (?=\[)|(?<=\] )\d+#\d+: ", re.MULTILINE)


class CommandResult(Protocol):
    """How a command ended."""

    @property
    def status(self) -> int:
        """Exit status; 127 when there is no such program, or it could not be started."""

    @property
    def output(self) -> str:
        """What it printed, both streams."""

    @property
    def timed_out(self) -> bool:
        """It did not end in time and was killed."""

    @property
    def without_view(self) -> bool:
        """It was not started, because it could not be given the view that was asked for."""


class CommandRunner(Protocol):
    """Runs a program without a shell, as the daemon's own user. Does not raise for a program that fails."""

    async def __call__(
        self, argv: Sequence[str], timeout_s: float, *, view: tuple[str, str] | None = None, limit: int = ...
    ) -> CommandResult:
        """Run `argv`, keep `limit` bytes of its output, and return how it ended.

        With `view` = (what, where) it alone sees the folder `what` in the place of `where`.
        """


class PublishError(Exception):
    """A step failed; the message is a sentence. `refused`: because of the configuration or of what it needs."""

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


def problem(argv: Sequence[str], result: CommandResult) -> str:
    """Say what went wrong with a command; empty when nothing did."""
    command = " ".join(argv)
    if result.timed_out:
        return f"`{command}` did not end within {COMMAND_TIMEOUT_S:.0f} s."
    if result.status == NOT_FOUND:
        said = result.output.strip() or f"There is no program {argv[0]}."
        return f"{said} Install nginx, or set nginx.enabled = false."
    if result.status != 0:
        return f"`{command}` says: {_words(result.output)[-_WORDS:] or f'nothing (exit status {result.status})'}"
    return ""


def _words(output: str) -> str:
    """Return what nginx said without when and by which process: the same complaint is to be recognised as the same."""
    return _WHEN.sub("", output.strip())
