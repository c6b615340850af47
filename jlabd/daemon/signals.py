"""The signals that the daemon acts upon, held back while nobody could: their defaults would end it without a word."""

from __future__ import annotations

import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)


def hold_back() -> None:
    """Let signals wait, from the start of the process, or before an exec, until `let_in`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def let_in() -> None:
    """Take the signals that were held back, and those to come."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
