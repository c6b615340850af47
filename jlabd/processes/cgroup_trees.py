"""Process trees as cgroups: one leaf per instance, below the daemon's own cgroup.

The kernel's books cannot be cheated by an ordinary user, and `cgroup.kill` leaves no time to fork. Only leaving the
leaf is possible, for who is allowed to (a login session opened by `su -`, a container engine): so a look for the marks
follows each kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from jlabd.processes import cgroup, controllers
from jlabd.processes.cgroup_events import EventsWatch, MemoryWatch
from jlabd.processes.controllers import Unenforced
from jlabd.processes.hunt import REPORT_EVERY_S, Hunter, log_survivors
from jlabd.processes.marks import RecentSnapshot, Target, begin_target, mark_of
from jlabd.processes.reaper import Reaper
from jlabd.processes.refusals import SpawnError
from jlabd.processes.tree import NO_LIMITS, Enrolment, MemoryKill
from jlabd.processes.usage import Usage, memory_of
from jlabd.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jlabd.processes.identity import Identity
    from jlabd.spec import Limits

log = structlog.get_logger()

_REMOVAL_TRIES = 20
_REMOVAL_PAUSE_S = 0.05
_RETRY_S = 1.0
_RIGHT_PROCESSORS = (6, 4)
_ROUND_S = 0.05
"""Pause between rounds of killing on kernels without cgroup.kill."""


class CgroupTrees:
    """A TreeKeeper for machines where the daemon may make cgroups."""

    kind = "cgroup"

    def __init__(
        self,
        runtime_dir: str,
        own_folder: str,
        tell: Callable[[MemoryKill], None] = lambda _: None,
    ) -> None:
        """`own_folder` is the cgroup below which the leaves are to be.

        `tell` is told when the kernel kills for want of memory.
        """
        self._runtime_dir = runtime_dir
        self._unit = own_folder
        self._base = base_folder(runtime_dir, own_folder)
        self._folders: dict[str, int] = {}
        """Open folders of the leaves that were prepared."""
        self._targets: dict[str, Target] = {}
        self._limits: dict[str, Limits] = {}
        """What is wanted of the leaves."""
        self._limiting: set[str] = set()
        """Leaves that `limit` is at work on."""
        self._watch = EventsWatch()
        self._memory = MemoryWatch(self._watch, tell)
        self._unenforced = Unenforced()
        self._hunter = Hunter(None)
        self._reaper = Reaper()
        self._recent = RecentSnapshot()

    def prepare(self, name: str, uid: int | None, limits: Limits = NO_LIMITS) -> Enrolment:
        """Make the instance's leaf. Raises SpawnError."""
        target = begin_target(self._targets, self._target(name, os.geteuid() if uid is None else uid))
        self._close_folder(name)
        try:
            self._folders[name] = make_leaf(self._leaf(name))
            self._hand_down(name, limits)
            self._limits[name] = limits
            controllers.set_limits(self._leaf(name), limits)
            self._memory.follow(name, self._leaf(name))
        except OSError as error:
            raise SpawnError(
                f"Cannot make the cgroup {self._leaf(name)} ready: {error}. "
                "Check Delegate=yes in jlabd's unit, and restart jlabd.",
                permanent=False,
            ) from error
        return Enrolment(self._folders[name], target.mark)

    def enrol(self, name: str, uid: int | None, leader: Identity) -> None:
        """Say which process is the server."""
        target = self._targets.setdefault(name, self._target(name, os.geteuid() if uid is None else uid))
        target.leader = leader
        self._follow(name)

    def can_be_born_in(self) -> bool:
        """Say whether the kernel is new, or the labs may use the same processors as the daemon.

        Until Linux 6.4 (and its backports) a child got those of its parent instead of its cgroup's.
        """
        own = cgroup.own_folder()
        if _kernel() >= _RIGHT_PROCESSORS or own is None:
            return True
        return cgroup.processors(own) == cgroup.processors(str(Path(self._base).parent))

    async def limit(self, name: str, limits: Limits) -> None:
        """Put other limits in force for what runs."""
        self._hand_down(name, limits)
        self._follow(name)  # in an old leaf the controller may be new
        self._limits[name] = limits
        if name in self._limiting:  # which looks again when it is done
            return
        self._limiting.add(name)
        try:
            await self._put_in_force(name)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # it has ended
                log.warning("New limits could not be put in force.", instance=name, error=str(error))
        finally:
            self._limiting.discard(name)

    async def _put_in_force(self, name: str) -> None:
        """Set the limits that are wanted last, one after the other: the system may take its time. Raises OSError."""
        done = None
        while (wanted := self._limits.get(name)) is not None and wanted is not done:
            await in_thread(functools.partial(controllers.set_limits, self._leaf(name), wanted))
            done = wanted

    def _hand_down(self, name: str, limits: Limits) -> None:
        """Have the controllers in the leaves, as far as possible, and say what is missing for `limits`."""
        have = controllers.hand_down(self._unit) & controllers.hand_down(self._base)
        self._unenforced.tell(name, controllers.needed(limits) - have)

    def _follow(self, name: str) -> None:
        """Watch a leaf that an earlier daemon made."""
        try:
            self._memory.follow(name, self._leaf(name))
        except OSError as error:
            log.warning("Nobody will notice if memory runs out.", instance=name, error=str(error))

    async def kill(self, name: str) -> None:
        """Kill everything in the leaf, then what left it; remove the leaf."""
        leaf = self._leaf(name)
        target = self._targets.get(name) or self._target(name, None)
        await self._empty(name, leaf)
        await self._hunter.kill(target, clean_looks=1)
        self._memory.leave(name)
        await self._remove(leaf)
        if self._targets.get(name) is target:
            del self._targets[name]
            self._limits.pop(name, None)
            self._close_folder(name)

    def pids(self, name: str) -> list[int]:
        """Return the living processes in the leaf. Raises OSError."""
        return cgroup.pids(self._leaf(name))

    def survivors(self, name: str) -> list[int]:
        """Return the living processes in the leaf, and those that an earlier daemon kept elsewhere. Raises OSError.

        That one may have run in another cgroup (another login, another unit) or where there were none.
        """
        target = self._targets.get(name) or self._target(name, None)
        return sorted({*self.pids(name), *self._recent.get().members(target)})

    def is_empty(self, name: str) -> bool:
        """Say whether no process is in the leaf. Raises OSError."""
        events = cgroup.open_events(self._leaf(name))
        if events is None:
            return True
        try:
            return not cgroup.is_populated(events)
        finally:
            os.close(events)

    def usage(self, name: str) -> Usage:
        """Return what the instance uses: the kernel's count where there is one. Raises OSError."""
        leaf = self._leaf(name)
        seconds, memory = cgroup.cpu_seconds(leaf), cgroup.memory_bytes(leaf)
        if seconds is None:  # the leaf is gone, and with it all that it counted
            return Usage(0.0, 0)
        return Usage(seconds, memory_of(self.pids(name)) if memory is None else memory)

    def memory_kill(self, name: str) -> MemoryKill | None:
        """Return how the kernel killed a process of the instance for want of memory, if it just did."""
        return self._memory.just_now(name)

    def memory_kills(self) -> Mapping[str, int]:
        """Return by instance how many processes the kernel killed for want of memory."""
        return self._memory.totals

    def close(self) -> None:
        """Let go of the leaves; no process is touched."""
        self._reaper.close()
        self._memory.close()
        for name in list(self._folders):
            self._close_folder(name)
        self._watch.close()
        self._remove_empty_leaves()
        with contextlib.suppress(OSError):  # not empty: labs live on
            Path(self._base).rmdir()

    def _remove_empty_leaves(self) -> None:
        """Remove what instances left that ended while no daemon looked, or were prepared and never started."""
        with contextlib.suppress(OSError):
            for leaf in Path(self._base).glob("lab-*"):
                if self.is_empty(leaf.name.removeprefix("lab-")):
                    cgroup.remove(str(leaf))

    async def _empty(self, name: str, leaf: str) -> None:
        """Kill until the leaf is empty; if the system has no descriptors or memory left to do so, try again."""
        while True:
            try:
                return await self._kill_and_wait(name, leaf)
            except OSError as error:
                log.warning("Cannot empty a cgroup; trying again.", folder=leaf, error=str(error))
            await asyncio.sleep(_RETRY_S)

    async def _kill_and_wait(self, name: str, leaf: str) -> None:
        events = cgroup.open_events(leaf)
        if events is None:
            return
        has_kill = cgroup.has_kill(leaf)
        try:
            while cgroup.is_populated(events):
                cgroup.kill_all(leaf)
                emptied = await self._watch.emptied(events, REPORT_EVERY_S if has_kill else _ROUND_S)
                if has_kill and not emptied:
                    log_survivors(name, cgroup.survivors(leaf))
        finally:
            os.close(events)

    async def _remove(self, leaf: str) -> None:
        for _ in range(_REMOVAL_TRIES):
            if cgroup.remove(leaf):
                return
            await asyncio.sleep(_REMOVAL_PAUSE_S)
        log.warning("An empty cgroup cannot be removed; it is used again at the next start.", folder=leaf)

    def _close_folder(self, name: str) -> None:
        descriptor = self._folders.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def _leaf(self, name: str) -> str:
        return f"{self._base}/lab-{name}"

    def _target(self, name: str, uid: int | None) -> Target:
        return Target(name, mark_of(self._runtime_dir, name), uid)


def _kernel() -> tuple[int, ...]:
    numbers = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return tuple(map(int, numbers.groups())) if numbers else (0, 0)


def base_folder(runtime_dir: str, own_folder: str) -> str:
    """Return the folder below which the leaves of the daemon of `runtime_dir` are: two daemons do not meet."""
    digest = hashlib.sha256(os.path.realpath(runtime_dir).encode()).hexdigest()[:12]
    return f"{own_folder}/jlabd-{digest}"


def make_leaf(leaf: str) -> int:
    """Make the cgroup and the one above it if they are not there; return the open folder. Raises OSError.

    Everybody may read in it, whatever the umask: programs look there for what they may use.
    """
    for folder in (Path(leaf).parent, Path(leaf)):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            folder.chmod(0o755)
    return os.open(leaf, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
