"""Who a process is: never its pid alone, because pids are used again (who forgot this has killed strangers)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jlabd.processes import procfs


@dataclass(frozen=True, slots=True)
class Identity:
    """One process among all that ever were on this machine."""

    pid: int
    start_ticks: int
    """When it started, in clock ticks since the machine did."""
    boot_id: str
    """Which life of the machine that was."""


@cache
def boot_id() -> str:
    """Return the name of the machine's present life."""
    return procfs.read("/proc/sys/kernel/random/boot_id").decode().strip()


def read(pid: int) -> Identity | None:
    """Return the identity of the living process `pid`; None if there is none, or only a zombie. Raises OSError."""
    stat = procfs.stat(pid)
    if stat is None or stat.gone:
        return None
    return Identity(pid, stat.start_ticks, boot_id())


def is_alive(identity: Identity) -> bool:
    """Say whether this very process still runs. Raises OSError if that cannot be found out."""
    return read(identity.pid) == identity
