"""One daemon per runtime folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class AlreadyRunningError(Exception):
    """Another daemon holds the runtime folder."""


def hold_lock(runtime_dir: str, inherited: int | None = None) -> int:
    """Lock `runtime_dir` for this process and return the descriptor that holds the lock.

    The kernel lets go when the process ends, however that happens, so that nothing stale can stand in the way.
    `inherited` holds the lock already, from an earlier program image of this process. Raises AlreadyRunningError,
    OSError.
    """
    descriptor = _open(Path(runtime_dir, "lock")) if inherited is None else inherited
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise AlreadyRunningError(
            f"Another jlabd{f' (pid {holder})' if holder else ''} already runs with {runtime_dir}; "
            f"nothing was changed. Give this one a runtime_dir of its own, or stop the other."
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _open(path: Path) -> int:
    """Open the file. Nobody else may even read it: who can open it can lock it, and keep the daemon from starting."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor
