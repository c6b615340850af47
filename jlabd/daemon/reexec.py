"""Re-execution: the daemon replaces itself by the code on disk, in the same process. Labs notice nothing.

Children stay children, because the process stays; the listening sockets and the lock are handed over open (`handover`),
so that requests and commands wait instead of failing. Everything else the new image finds as after a crash.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from jlabd.daemon import handover, signals
from jlabd.processes.command import run
from jlabd.processes.descriptors import raise_limit, restore_limit

TRY = "--try"
"""Option of `jlabd`: import everything, read the configuration, and end."""
TRY_TIMEOUT_S = 60.0


async def why_not() -> str:
    """Try out the code on disk; return why it cannot start, empty if it can."""
    result = await run([*_command(), TRY], TRY_TIMEOUT_S)
    if result.timed_out:
        return f"it did not start within {TRY_TIMEOUT_S:g} s"
    if result.status != 0:
        lines = result.output.strip().splitlines()
        return lines[-1] if lines else f"it ended with status {result.status}"
    return ""


def become_successor(descriptors: Mapping[str, int]) -> None:
    """Replace this program image; returns only by raising OSError, with everything as before."""
    signals.hold_back()
    try:
        handover.offer(descriptors)
        sys.stderr.flush()
        command = _command()
        restore_limit()
        os.execv(command[0], command)  # noqa: S606  (our own program, as it was started)
    finally:
        raise_limit()
        handover.withdraw()
        signals.let_in()


def _command() -> list[str]:
    """Return how this process was started, with all options of the interpreter."""
    return [sys.executable, *sys.orig_argv[1:]]
