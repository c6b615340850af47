"""The warm parents, one for each environment; and one more for root's own labs, which alone keeps root's rights.

Made at the first start, made anew when there is new code, sent away when nobody needs them, and left alone for a while
when they fail. A start never waits long for one: it can always be cold.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jlabd.core.launch import Launch
from jlabd.processes.refusals import SpawnError
from jlabd.processes.spawn import Process
from jlabd.processes.tree import TreeKeeper
from jlabd.threads import in_thread, in_thread_once
from jlabd.warm.birth import Descriptors, ForkError
from jlabd.warm.fitness import what_was_read
from jlabd.warm.parent import UnfitError, WarmParent
from jlabd.warm.venv import Fingerprint, Venv

PATIENCE_S = 15.0
"""So long after its beginning starts wait for a parent: far more than it takes, unless the machine has just booted."""
IMPORT_TIMEOUT_S = 60.0
RETRY_S = (10.0, 60.0, 600.0, 3600.0)
"""How long a parent that failed is left alone, after each failure in a row. New code is tried at once."""
LOOK_TIMEOUT_S = 2.0
"""For a look at the environment; on a dead file server it would take for ever."""
CLOCK_NS = 20_000_000
"""How far the times of files may lag behind the clock."""
CANARY = "nobody-at-home"
"""User and home folder of parents."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class News:
    """Something that people may want to know of a warm parent."""

    venv: str
    good: bool
    sentence: str


class NotWarmError(Exception):
    """There is no warm parent to fork from now; the text is a clause that says why."""


@dataclass(slots=True)
class _Place:
    """One environment, and the parent for it if there is one."""

    venv: Venv
    trust: str
    """How the parent imports, for `launcher/warm.py`."""
    parent: WarmParent | None = None
    making: asyncio.Task[None] | None = None
    began: float = 0.0
    """When the making began, monotonic."""
    folders: frozenset[str] = frozenset()
    """Where the last parent has imported from."""
    fingerprint: Fingerprint = frozenset()
    """Of the code that the last parent has, or that failed."""
    reason: str = ""
    """Why there is none."""
    failures: int = 0
    retry_at: float = 0.0
    timer: asyncio.TimerHandle | None = None


class Parents:
    """Forks labs from warm parents. To be used in the running event loop."""

    def __init__(
        self,
        trees: TreeKeeper,
        launcher_dir: str,
        idle_s: float,
        begin: Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]],
        tell: Callable[[News], None] = lambda _: None,
    ) -> None:
        """`launcher_dir` holds the scripts; `idle_s`: how long an unused parent stays; `begin` runs a task."""
        self.idle_s = idle_s
        self._trees = trees
        self._launcher_dir = launcher_dir
        self._begin = begin
        self._tell = tell
        self._places: dict[tuple[str, str], _Place] = {}
        self._ending: set[asyncio.Task[Any]] = set()
        self._made = 0

    async def fork(self, venv: str, launch: Launch, descriptors: Descriptors) -> tuple[Process, str]:
        """Return a lab forked from the parent of `venv`, and why it executed Python anew after all, empty if not.

        Raises NotWarmError: then nothing was started. Raises SpawnError as `processes.spawn.spawn` does.
        """
        trust = _trust(launch)
        place = self._places.setdefault((venv, trust), _Place(Venv(venv), trust))
        parent = await self._parent(place)
        if reason := what_was_read(launch.env, parent.variables):
            raise NotWarmError(reason)
        try:
            return await parent.fork(launch, descriptors)
        except ForkError as error:
            reason = f"the warm parent of {venv} made no lab: {error}"
            if place.parent is parent:
                self._fail(place, reason)
            raise NotWarmError(reason) from error
        finally:
            self._watch_idleness(place)

    async def close(self) -> None:
        """End all parents; the labs live on. More can be made afterwards."""
        places, self._places = self._places, {}
        for place in places.values():
            if place.making is not None:
                place.making.cancel()
                await asyncio.wait([place.making])
            self._dismiss(place)
        if self._ending:
            await asyncio.wait(self._ending)

    async def _parent(self, place: _Place) -> WarmParent:
        """Return a parent with the present code. Raises NotWarmError."""
        if place.parent is not None and not place.parent.alive:
            self._fail(place, f"the warm parent of {place.venv.folder} has ended")
        if place.making is None and await self._fingerprint(place) != place.fingerprint and place.making is None:
            self._dismiss(place)
            place.failures, place.retry_at = 0, 0.0
        if place.parent is None and place.making is None:
            if time.monotonic() < place.retry_at:
                raise NotWarmError(place.reason)
            place.began = time.monotonic()
            place.making = self._begin(self._make(place), f"warm parent of {place.venv.folder}")
        if place.making is not None:
            await asyncio.wait([place.making], timeout=max(0.0, place.began + PATIENCE_S - time.monotonic()))
        if place.parent is None:
            raise NotWarmError(place.reason if place.making is None else "its warm parent is still being made")
        return place.parent

    async def _fingerprint(self, place: _Place) -> Fingerprint:
        """Look whether there is new code. Raises NotWarmError if the disk does not answer."""
        venv, folders = place.venv, place.folders
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                return await in_thread_once((venv, folders), lambda: venv.fingerprint(folders))
        except (TimeoutError, OSError) as error:
            raise NotWarmError(f"{venv.folder} cannot be looked at: {error or 'the disk does not answer'}") from error

    async def _make(self, place: _Place) -> None:
        venv = place.venv
        try:
            place.folders = frozenset()
            place.fingerprint = await in_thread(venv.fingerprint)
            parent, place.fingerprint = await self._start(venv, place.trust)
            place.folders = parent.folders
        except (UnfitError, SpawnError, OSError) as error:
            reason = error.reason if isinstance(error, SpawnError) else str(error)
            self._fail(place, f"no warm parent for {venv.folder}: {reason}")
        else:
            place.parent, place.reason, place.failures = parent, "", 0
            took = time.monotonic() - place.began
            self._tell(
                News(venv.folder, good=True, sentence=f"a warm parent has imported {venv.folder} in {took:.1f} s")
            )
            self._watch_idleness(place)
        finally:
            place.making = None

    async def _start(self, venv: Venv, trust: str) -> tuple[WarmParent, Fingerprint]:
        """Return a parent that has imported, and what it has imported. Raises UnfitError, SpawnError, OSError."""
        if trust != "own" and (culprit := await in_thread(venv.untrusted)):
            raise UnfitError(untrusted(culprit))
        self._made += 1
        tree = f"_warm-{self._made}"
        before = time.time_ns() - CLOCK_NS
        try:
            enrolment = self._trees.prepare(tree, None)
            parent = await WarmParent.begin(tree, self._launch(venv, trust), enrolment.cgroup_fd)
        except BaseException:
            await self._trees.kill(tree)
            raise
        self._trees.enrol(tree, None, parent.process.identity)
        try:
            return parent, await imported(venv, parent, before)
        except BaseException:
            await self._end(parent)
            raise

    def _launch(self, venv: Venv, trust: str) -> Launch:
        """Return how a parent is started: as somebody and in a place that nobody is, to see what is captured."""
        nowhere = f"{self._launcher_dir}/{CANARY}"
        Path(nowhere).mkdir(0o555, exist_ok=True)
        env = {
            "HOME": nowhere,
            "USER": CANARY,
            "LOGNAME": CANARY,
            "PATH": f"{venv.folder}/bin:{_PATH}:{nowhere}",
            "LANG": "C.UTF-8",
            "VIRTUAL_ENV": venv.folder,
        }
        script = f"{self._launcher_dir}/warm.py"
        options = ("--daemon", str(os.getpid()), "--trust", trust)
        return Launch((venv.python, "-I", "-S", script, *options), env, cwd=nowhere, account=None, umask=0o077)

    def _fail(self, place: _Place, reason: str) -> None:
        self._dismiss(place)
        place.reason = reason
        place.retry_at = time.monotonic() + RETRY_S[min(place.failures, len(RETRY_S) - 1)]
        place.failures += 1
        self._tell(News(place.venv.folder, good=False, sentence=reason))

    def _dismiss(self, place: _Place) -> None:
        """Fork nothing more from the parent, and end it."""
        parent, place.parent = place.parent, None
        if place.timer is not None:
            place.timer.cancel()
            place.timer = None
        if parent is not None:
            task = self._begin(self._end(parent), f"end of the warm parent of {place.venv.folder}")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _end(self, parent: WarmParent) -> None:
        """End a parent with all that it ever started but labs."""
        await parent.rest()
        await self._trees.kill(parent.tree)
        await parent.end()

    def _watch_idleness(self, place: _Place) -> None:
        if place.timer is not None:
            place.timer.cancel()
        place.timer = None
        if place.parent is not None:
            place.timer = asyncio.get_running_loop().call_later(self.idle_s, self._perhaps_idle, place)

    def _perhaps_idle(self, place: _Place) -> None:
        if place.parent is not None and place.parent.busy:
            self._watch_idleness(place)
        else:
            self._dismiss(place)


def _trust(launch: Launch) -> str:
    """Return how the parent of such a lab imports: root's own labs get one that keeps root's rights, as they do."""
    if os.geteuid() != 0:
        return "own"
    return "root-whole" if launch.account is None or launch.account.uid == 0 else "root"


async def imported(venv: Venv, parent: WarmParent, since: int) -> Fingerprint:
    """Return what `parent` has imported once it has; `since` is when it began, in ns. Raises UnfitError, OSError."""
    await parent.imported(IMPORT_TIMEOUT_S)
    fingerprint = await in_thread(lambda: venv.fingerprint(parent.folders))
    if has_changed(fingerprint, since, time.time_ns()):
        raise UnfitError("it was changed while it was imported")
    return fingerprint


def untrusted(culprit: str) -> str:
    """Return the clause about a file that others than root can change."""
    return f"others than root can change {culprit}, and jlabd does not run their code with its own rights"


def has_changed(fingerprint: Fingerprint, since: int, now: int) -> bool:
    """Say whether something changed between two moments, in ns since the epoch; times to come are mere mistakes."""
    return any(since <= changed <= now for _, changed, _ in fingerprint)
