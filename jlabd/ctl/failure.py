"""How a command fails, and the exit codes."""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
NOT_AS_DESIRED = 3
NOT_THERE = 4
"""No such instance, or no daemon."""
INTERRUPTED = 130
READER_GONE = 141
"""What a shell reports for a program that died of SIGPIPE."""


class CommandError(Exception):
    """The command ends with exit code `code`, after its text on stderr."""

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.code = code
