"""Children whose exit status somebody waits for.

A process has one set of children, so this is one set per process. Whoever forks claims the child in the same breath,
before the event loop can run anything else, and drops the claim when the child is reaped. The reaper of orphans
(`reaper`) leaves claimed children alone.
"""

from __future__ import annotations

_claimed: set[int] = set()


def claim(pid: int) -> None:
    """Say that the caller will reap the child `pid`."""
    _claimed.add(pid)


def drop(pid: int) -> None:
    """Say that the child `pid` has been reaped."""
    _claimed.discard(pid)


def is_claimed(pid: int) -> bool:
    """Say whether somebody will reap the child `pid`."""
    return pid in _claimed
