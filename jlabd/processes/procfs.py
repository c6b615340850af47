"""What /proc says of a process, read directly: psutil costs ten times as much per process, and we scan them all.

A process that is gone reads as None or as nothing. Any other failure (no descriptors left, no memory) is raised as
OSError: "I could not look" must never pass for "there is nothing".
"""

from __future__ import annotations

import errno
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from jlabd.core.launch import MARK_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")

_GONE_OR_HIDDEN = frozenset({errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM})
_KERNEL_THREAD = 0x00200000
_READ_LIMIT = 128 * 1024
_REALTIME_LIMIT = re.compile(rb"^Max realtime timeout +\S+ +(\d+)", re.MULTILINE)
_REAL_UID = re.compile(rb"^Uid:\t(\d+)", re.MULTILINE)
_MARK = re.compile(rb"(?:^|\0)" + MARK_VARIABLE.encode() + rb"=([^\0]*)")


class Stat(NamedTuple):
    """One line of /proc/PID/stat, as far as we use it."""

    pid: int
    name: str
    state: str
    ppid: int
    session: int
    flags: int
    cpu_ticks: int
    """Time used by it and by the children that it has waited for."""
    threads: int
    start_ticks: int

    @property
    def gone(self) -> bool:
        """Whether it is a mere zombie. A leader that ended before its threads is shown as a zombie too, but lives."""
        return self.state in "ZX" and self.threads <= 1

    @property
    def is_kernel_thread(self) -> bool:
        """Whether it belongs to the kernel."""
        return bool(self.flags & _KERNEL_THREAD)


def read(path: str) -> bytes:
    """Return the start of a file below /proc, b"" if the process is gone or not ours to look at. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _GONE_OR_HIDDEN:
            return b""
        raise
    try:
        return os.read(descriptor, _READ_LIMIT)
    except OSError as error:
        if error.errno in _GONE_OR_HIDDEN:
            return b""
        raise
    finally:
        os.close(descriptor)


def ticks_now() -> int:
    """Return a `Stat.start_ticks` that no process that is started from now on is below."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS_PER_SECOND) - 1


def stat(pid: int) -> Stat | None:
    """Return what the system says of `pid`, also when it is a zombie; None if there is no such process."""
    text = read(f"/proc/{pid}/stat")
    if not text:
        return None
    head, _, tail = text.rpartition(b")")  # the name in between may hold anything, parentheses too
    field = tail.split()
    return Stat(
        pid=pid,
        name=head.partition(b"(")[2].decode(errors="replace"),
        state=field[0].decode(),
        ppid=int(field[1]),
        session=int(field[3]),
        flags=int(field[6]),
        cpu_ticks=int(field[11]) + int(field[12]) + int(field[13]) + int(field[14]),
        threads=int(field[17]),
        start_ticks=int(field[19]),
    )


def pids() -> Iterator[int]:
    """Yield every process id that the system shows."""
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208  (hot path)


def realtime_limit(pid: int) -> int | None:
    """Return the hard RLIMIT_RTTIME in microseconds, None if unlimited or gone. Readable for every process."""
    found = _REALTIME_LIMIT.search(read(f"/proc/{pid}/limits"))
    return int(found[1]) if found else None


def environment_mark(pid: int) -> str | None:
    """Return the mark in the environment that the process was started with, None if it has none."""
    found = _MARK.search(read(f"/proc/{pid}/environ"))
    return found[1].decode(errors="replace") if found else None


def real_uid(pid: int) -> int | None:
    """Return the user on whose behalf the process runs, whatever set-user-id programs it executes."""
    found = _REAL_UID.search(read(f"/proc/{pid}/status"))
    return int(found[1]) if found else None


def resident_private_bytes(pid: int) -> int:
    """Return the resident memory less the part that is backed by files or shared memory, 0 if the process is gone."""
    fields = read(f"/proc/{pid}/statm").split()
    return (int(fields[1]) - int(fields[2])) * PAGE_SIZE if fields else 0


def children() -> list[int]:
    """Return this process's children, zombies too. Those that end meanwhile may be missing."""
    own = os.getpid()
    listed = read(f"/proc/{own}/task/{own}/children")
    if listed or os.access(f"/proc/{own}/task/{own}/children", os.R_OK):
        return [int(pid) for pid in listed.split()]
    return [one.pid for one in map(stat, pids()) if one is not None and one.ppid == own]
