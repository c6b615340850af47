"""Whole process trees: what an instance ever started, wherever it hid, and how all of it ends.

Two keepers with the same verbs: `CgroupTrees` where the daemon may make cgroups (the kernel keeps the books and kills
everything at one stroke), `MarkedTrees` elsewhere. `choose_trees` tries out which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from jlabd.processes.identity import Identity
    from jlabd.processes.usage import Usage


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a process needs in order to belong to an instance from its first moment."""

    cgroup_fd: int | None
    """Folder of the cgroup to join (`spawn`); the keeper's own, valid until the tree is killed."""
    mark: str
    """For `Launch.mark`."""


class TreeKeeper(Protocol):
    """Knows and ends the processes of each instance. To be made, used and closed in the running event loop."""

    @property
    def kind(self) -> str:
        """Which keeper this is: “cgroup” or “marks”."""

    def prepare(self, name: str, uid: int | None) -> Enrolment:
        """Make ready for a new incarnation that runs as `uid` (None: the daemon's own). Raises SpawnError."""

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

    def close(self) -> None:
        """Let go of everything; no process is touched."""
