"""Whole process trees: what an instance ever started, wherever it hid, and how all of it ends.

Two keepers with the same verbs: `CgroupTrees` where the daemon may make cgroups (the kernel keeps the books and kills
everything at one stroke), `MarkedTrees` elsewhere. `choose_trees` tries out which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from jlabd.spec import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jlabd.processes.identity import Identity
    from jlabd.processes.usage import Usage


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a process needs in order to belong to an instance from its first moment."""

    cgroup_fd: int | None
    """Folder of the cgroup to join (`spawn`); the keeper's own, valid until the tree is killed."""
    mark: str
    """For `Launch.mark`."""


@dataclass(frozen=True, slots=True)
class MemoryKill:
    """The kernel killed processes of an instance because there was no memory left."""

    instance: str
    processes: int
    limit: int | None
    """The instance's own limit in bytes, if that was the cause."""

    def describe(self) -> str:
        """Return what was done and why, to follow “was”."""
        if self.limit is None:
            return "killed by the kernel: the machine, or all labs together, had no memory left"
        return f"killed by the kernel: memory limit {_size(self.limit)}"


def _size(size: int) -> str:
    """Return a size as people write it: exact if that is short, else rounded."""
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size >> 10} KiB"


class TreeKeeper(Protocol):
    """Knows and ends the processes of each instance. To be made, used and closed in the running event loop."""

    @property
    def kind(self) -> str:
        """Which keeper this is: “cgroup” or “marks”."""

    def prepare(self, name: str, uid: int | None, limits: Limits = NO_LIMITS) -> Enrolment:
        """Make ready for processes that run as `uid` (None: the daemon's own), within `limits`. Raises SpawnError.

        Limits that cannot be enforced here are said to be so in the log, once.
        """

    def can_be_born_in(self) -> bool:
        """Say whether a process that is forked into an instance's cgroup is what one is that moves there."""

    async def limit(self, name: str, limits: Limits) -> None:
        """Put other limits in force for what runs. Raises nothing."""

    def enrol(self, name: str, uid: int | None, leader: Identity) -> None:
        """Say which process is the server: one just spawned, or one that an earlier daemon left."""

    async def kill(self, name: str) -> None:
        """Kill every process of the instance; return when none is left. Asking twice at a time is harmless."""

    def pids(self, name: str) -> list[int]:
        """Return the living processes of the instance, as of half a second ago at most. Raises OSError."""

    def survivors(self, name: str) -> list[int]:
        """Return the living processes of the instance, also those that an earlier daemon kept elsewhere.

        As of half a second ago at most. Raises OSError.
        """

    def is_empty(self, name: str) -> bool:
        """Say whether no process of the instance is left. Raises OSError."""

    def usage(self, name: str) -> Usage:
        """Return what the instance uses."""

    def memory_kill(self, name: str) -> MemoryKill | None:
        """Return how the kernel killed a process of the instance for want of memory, if it just did."""

    def memory_kills(self) -> Mapping[str, int]:
        """Return by instance how many processes the kernel killed for want of memory while this keeper looked."""

    def close(self) -> None:
        """Let go of everything; no process is touched."""
