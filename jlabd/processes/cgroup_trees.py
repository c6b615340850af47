"""Process trees as cgroups: one leaf per instance, below the daemon's own cgroup.

The kernel's books cannot be cheated by an ordinary user, and `cgroup.kill` leaves no time to fork. Only leaving the
leaf is possible, for who is allowed to (a login session opened by `su -`, a container engine): so a look for the marks
follows each kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import select
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from jlabd.processes import cgroup
from jlabd.processes.hunt import REPORT_EVERY_S, Hunter, log_survivors
from jlabd.processes.marks import RecentSnapshot, Target, mark_of
from jlabd.processes.refusals import SpawnError
from jlabd.processes.tree import Enrolment
from jlabd.processes.usage import Usage, memory_of

if TYPE_CHECKING:
    from jlabd.processes.identity import Identity

log = structlog.get_logger()

_REMOVAL_TRIES = 20
_REMOVAL_PAUSE_S = 0.05
_RETRY_S = 1.0
_ROUND_S = 0.05
"""Pause between rounds of killing on kernels without cgroup.kill."""


class CgroupTrees:
    """A TreeKeeper for machines where the daemon may make cgroups."""

    kind = "cgroup"

    def __init__(self, runtime_dir: str, own_folder: str) -> None:
        self._runtime_dir = runtime_dir
        self._base = base_folder(runtime_dir, own_folder)
        self._folders: dict[str, int] = {}
        """Open folders of the leaves that were prepared."""
        self._targets: dict[str, Target] = {}
        self._watch = _EventsWatch()
        self._hunter = Hunter(None)
        self._recent = RecentSnapshot()

    def prepare(self, name: str, uid: int | None) -> Enrolment:
        """Make the instance's leaf. Raises SpawnError."""
        target = self._targets[name] = self._target(name, os.geteuid() if uid is None else uid)
        self._close_folder(name)
        try:
            self._folders[name] = make_leaf(self._leaf(name))
        except OSError as error:
            raise SpawnError(
                f"Cannot make the cgroup {self._leaf(name)}: {error.strerror}. "
                "Check Delegate=yes in jlabd's unit, and restart jlabd.",
                permanent=False,
            ) from error
        return Enrolment(self._folders[name], target.mark)

    def enrol(self, name: str, uid: int | None, leader: Identity) -> None:
        """Say which process is the server."""
        target = self._targets.setdefault(name, self._target(name, os.geteuid() if uid is None else uid))
        target.leader = leader

    async def kill(self, name: str) -> None:
        """Kill everything in the leaf, then what left it; remove the leaf."""
        leaf = self._leaf(name)
        target = self._targets.get(name) or self._target(name, None)
        await self._empty(name, leaf)
        await self._hunter.kill(target, clean_looks=1)
        await self._remove(leaf)
        if self._targets.get(name) is target:
            del self._targets[name]
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

    def close(self) -> None:
        """Let go of the leaves; no process is touched."""
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


def base_folder(runtime_dir: str, own_folder: str) -> str:
    """Return the folder below which the leaves of the daemon of `runtime_dir` are: two daemons do not meet."""
    digest = hashlib.sha256(os.path.realpath(runtime_dir).encode()).hexdigest()[:12]
    return f"{own_folder}/jlabd-{digest}"


def make_leaf(leaf: str) -> int:
    """Make the cgroup and the one above it if they are not there; return the open folder. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        Path(leaf).parent.mkdir(0o755)
    with contextlib.suppress(FileExistsError):
        Path(leaf).mkdir(0o755)
    return os.open(leaf, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class _EventsWatch:
    """Waits for changes of cgroup.events files.

    They announce themselves as “urgent” (EPOLLPRI). asyncio knows only readable and writable, so an epoll of our own
    hangs in its loop.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._waiting: dict[int, asyncio.Event] = {}
        self._loop.add_reader(self._epoll.fileno(), self._dispatch)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    async def emptied(self, events: int, timeout: float) -> bool:
        """Wait until the cgroup of this open cgroup.events is empty, `timeout` seconds at most; say whether it is."""
        changed = self._waiting[events] = asyncio.Event()
        self._epoll.register(events, select.EPOLLPRI)
        try:
            async with asyncio.timeout(timeout):
                while cgroup.is_populated(events):
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            return False
        finally:
            self._epoll.unregister(events)
            del self._waiting[events]
        return True

    def _dispatch(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            with contextlib.suppress(OSError):
                os.pread(descriptor, 4096, 0)  # reading is what marks the change as seen
            if descriptor in self._waiting:
                self._waiting[descriptor].set()
