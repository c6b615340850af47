"""What processes use of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jlabd.processes import procfs

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor time and memory of one instance."""

    cpu_seconds: float
    """Ever used. From a cgroup it never falls; from processes it can, when an orphan takes its time to the grave."""
    memory_bytes: int
    """From a cgroup with the memory controller what the kernel charges, page cache included (it is what a limit would
    count); otherwise the sum of resident memory without files and shared memory. Pages that a forked process still has
    in common with its parent count in each: the exact share (PSS) takes the kernel a hundred times as long."""


def usage(pids: Iterable[int]) -> Usage:
    """Return what `pids` use together; those that are gone use nothing. Raises OSError."""
    pids = list(pids)
    ticks = sum(stat.cpu_ticks for pid in pids if (stat := procfs.stat(pid)) is not None)
    return Usage(ticks / procfs.TICKS_PER_SECOND, memory_of(pids))


def memory_of(pids: Iterable[int]) -> int:
    """Return the resident memory of `pids` in bytes, without files and shared memory. Raises OSError."""
    return sum(map(procfs.resident_private_bytes, pids))
