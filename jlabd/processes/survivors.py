"""Finding the server of an instance that an earlier daemon left running, and getting its listening socket back."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Collection, Iterator

from jlabd.core.launch import LISTEN_FD
from jlabd.processes import identity, procfs
from jlabd.processes.identity import Identity
from jlabd.processes.spawn import Process

_PIDFD_GETFD = 438
"""The system call's number, the same on every architecture (added after numbers were unified, Linux 5.6)."""
_LISTEN_PID = re.compile(rb"(?:^|\0)LISTEN_PID=(\d+)\0")
_LIBC = ctypes.CDLL(None, use_errno=True)


def find_server(members: Collection[int], remembered: Identity | None) -> Identity | None:
    """Return which of an instance's processes is its server: the remembered one, else the one that was spawned as such.

    A process is the server if it is one of `members` and has the identity that was remembered, pid and
    start time and boot; or if it was started with LISTEN_PID set to its own pid, which `spawn` does. Raises OSError.
    """
    if remembered is not None and remembered.pid in members and identity.is_alive(remembered):
        return remembered
    for pid in members:
        found = _LISTEN_PID.search(procfs.read(f"/proc/{pid}/environ"))
        if found is not None and int(found[1]) == pid and (who := identity.read(pid)) is not None:
            return who
    return None


def is_warm(pid: int) -> bool:
    """Say whether a server was forked from a warm parent, which its command line shows."""
    words = procfs.read(f"/proc/{pid}/cmdline").split(b"\0")
    return b"--warm" in words[:3] or any(word.endswith(b"/launcher/warm.py") for word in words[:5])


def sockets_of(process: Process) -> Iterator[int]:
    """Yield duplicates of the process's sockets, the one that it listens on first; each is the caller's to close.

    Yields nothing where the system does not allow it: as another user than root it wants us to be a parent (Yama).
    """
    for number in (LISTEN_FD, *_other_sockets(process.pid)):
        descriptor = _LIBC.syscall(_PIDFD_GETFD, process.pidfd, number, 0)
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
            yield descriptor


def _other_sockets(pid: int) -> list[int]:
    folder = f"/proc/{pid}/fd"
    try:
        numbers = [int(entry) for entry in os.listdir(folder)]  # noqa: PTH208  (numbers, not paths)
        return [number for number in numbers if number != LISTEN_FD and _is_socket(f"{folder}/{number}")]
    except OSError:
        return []


def _is_socket(path: str) -> bool:
    try:
        return os.readlink(path).startswith("socket:")  # noqa: PTH115  (no path in the file system)
    except OSError:
        return False
