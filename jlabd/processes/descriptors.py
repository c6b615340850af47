"""The daemon's own limit of open files: as high as it may be, while what it starts gets the ordinary one.

The usual soft limit of 1024 is for programs that use select(2), which the daemon does not; it has some four descriptors
for each instance. Its children might use select.
"""

from __future__ import annotations

import resource

MOST = 1 << 20

_ordinary: tuple[int, int] | None = None


def raise_limit() -> None:
    """Raise this process's limit of open files as far as it may; asking twice is harmless."""
    global _ordinary  # noqa: PLW0603  (a process has one limit)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if _ordinary is None and soft < highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        _ordinary = (soft, hard)


def restore_limit() -> None:
    """Go back to the ordinary limit. What is open beyond it stays open."""
    global _ordinary  # noqa: PLW0603  (see raise_limit)
    if _ordinary is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, _ordinary)
        _ordinary = None


def ordinary_limit() -> tuple[int, int] | None:
    """Return the limit (soft, hard) that children get, None if it is the one that this process has."""
    return _ordinary
