"""Process trees without cgroups: marks, descent, sessions (`marks`), and the daemon as parent of orphans (`reaper`)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jlabd.processes.controllers import Unenforced, needed
from jlabd.processes.hunt import Hunter
from jlabd.processes.marks import RecentSnapshot, Snapshot, Target, begin_target, mark_of, take_snapshot
from jlabd.processes.reaper import Reaper
from jlabd.processes.tree import NO_LIMITS, Enrolment, MemoryKill
from jlabd.processes.usage import Usage, usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jlabd.processes.identity import Identity
    from jlabd.spec import Limits


class MarkedTrees:
    """A TreeKeeper that works everywhere."""

    kind = "marks"

    def __init__(self, runtime_dir: str) -> None:
        self._runtime_dir = runtime_dir
        self._targets: dict[str, Target] = {}
        self._reaper = Reaper()
        self._hunter = Hunter(self._reaper)
        self._recent = RecentSnapshot()
        self._unenforced = Unenforced()

    def prepare(self, name: str, uid: int | None, limits: Limits = NO_LIMITS) -> Enrolment:
        """Make ready for new processes. Raises nothing."""
        self._unenforced.tell(name, needed(limits))
        target = begin_target(self._targets, self._target(name, os.geteuid() if uid is None else uid))
        self._recent.forget()
        return Enrolment(None, target.mark)

    def expect(self, name: str, uid: int | None) -> None:
        """Say that an earlier daemon may have left processes of the instance, of any age, which run as `uid`."""
        self._targets.setdefault(name, self._target(name, os.geteuid() if uid is None else uid))

    def can_be_born_in(self) -> bool:
        """There are no cgroups."""
        return False

    async def limit(self, name: str, limits: Limits) -> None:
        """Say that this cannot be done."""
        self._unenforced.tell(name, needed(limits))

    def enrol(self, name: str, uid: int | None, leader: Identity) -> None:
        """Say which process is the server."""
        target = self._targets.setdefault(name, self._target(name, os.geteuid() if uid is None else uid))
        target.leader = leader

    async def kill(self, name: str) -> None:
        """Kill every process of the instance; return when two looks in a row found none."""
        target = self._targets.get(name) or self._target(name, None)
        others = {other.uid for other in self._targets.values() if other is not target}
        alone = target.uid not in {None, os.geteuid(), *others}
        await self._hunter.kill(target, clean_looks=2, alone=alone)
        self._recent.forget()
        if self._targets.get(name) is target:
            del self._targets[name]

    def pids(self, name: str) -> list[int]:
        """Return the living processes of the instance, as of half a second ago at most. Raises OSError."""
        return self._members(name, self._recent.get({target.limit for target in self._targets.values()}))

    def survivors(self, name: str) -> list[int]:
        """Return the living processes of the instance, of whatever daemon. Raises OSError."""
        return self.pids(name)

    def is_empty(self, name: str) -> bool:
        """Say whether no process of the instance is left. Raises OSError."""
        return not self._members(name, take_snapshot())

    def usage(self, name: str) -> Usage:
        """Return what the instance uses. Raises OSError."""
        return usage(self.pids(name))

    def memory_kill(self, _name: str) -> MemoryKill | None:
        """Return nothing: who killed a process cannot be told without cgroups."""
        return None

    def memory_kills(self) -> Mapping[str, int]:
        """Return nothing, likewise."""
        return {}

    def close(self) -> None:
        """Stop burying orphans; no process is touched."""
        self._reaper.close()

    def _members(self, name: str, snapshot: Snapshot) -> list[int]:
        target = self._targets.get(name) or self._target(name, None)
        return sorted(snapshot.members(target))

    def _target(self, name: str, uid: int | None) -> Target:
        return Target(name, mark_of(self._runtime_dir, name), uid)
