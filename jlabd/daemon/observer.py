"""The observer: what labs cost and what happens in them, asked rarely, and more often while somebody looks.

It must not cost much itself, however many labs there are: labs take turns at a rate that has a limit, several in one
step, because what costs is to be woken; and looks at what all of them use are rarer the longer one takes. A look that
fails, hangs or comes too late concerns nobody but the one life of a server that it was meant for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from jlabd.core.state import Actual, Instance
from jlabd.daemon.driver import Driver
from jlabd.daemon.tasks import Tasks
from jlabd.jupyter.activity import Activity, ActivityError
from jlabd.processes.usage import Usage
from jlabd.spec import InstanceSpec
from jlabd.status.history import Histories
from jlabd.status.view import NOTHING_OBSERVED, Observation

log = structlog.get_logger()

LOOKED_AT_S = 15.0
"""Somebody who asked for the status so recently is probably still looking."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often each lab is asked: every `shortest_s`, but not more than `at_most` labs a second altogether."""

    shortest_s: float
    at_most: float
    step_s: float
    """Time between two steps. All are taken at whole multiples of it, when the daemon is awake for probes too."""

    def labs_in_a_step(self, labs: int) -> float:
        """Return how many of so many labs are asked in a step."""
        return min(labs / self.shortest_s, self.at_most) * self.step_s


WATCHED = Pace(2.0, 15.0, 1.0)
UNWATCHED = Pace(5.0, 5.0, 5.0)
WATCHED_USAGE_S = 3.0
UNWATCHED_USAGE_S = 60.0
"""Between two looks at what everybody uses. All at once, because one look goes through all processes of the machine
where there are no cgroups."""
USAGE_SHARE = 0.002
"""Looks at what everybody uses take at most this share of a core."""
AT_A_STRETCH_S = 0.005
"""So long such a look may hold up the event loop."""


class Eyes(Protocol):
    """What looks at the real world."""

    def usage(self, name: str) -> Usage:
        """Return what an instance uses of the machine. Raises OSError."""
        ...

    async def activity(self, spec: InstanceSpec) -> Activity:
        """Return what a lab says of itself. Raises ActivityError."""
        ...


Life = tuple[int, int]
"""Incarnation and pid of a server."""


@dataclass(slots=True)
class Seen:
    """What was last seen of one life."""

    life: Life
    observation: Observation = NOTHING_OBSERVED
    cpu_s: float | None = None
    """CPU time of its tree, in seconds, at `cpu_at`."""
    cpu_at: float = 0.0


class Observer:
    """Keeps the last observation of each instance."""

    def __init__(
        self, driver: Driver, eyes: Eyes, tasks: Tasks, *, spent: Callable[[], float] = time.thread_time
    ) -> None:
        self._driver = driver
        self._eyes = eyes
        self._tasks = tasks
        self._spent = spent
        self._now = asyncio.get_running_loop().time
        self._seen: dict[str, Seen] = {}
        self._asked: set[tuple[str, Life]] = set()
        self._turns: deque[str] = deque()
        self._due = 0.0
        """How many labs are to be asked in this step."""
        self._usage_at = float("-inf")
        self._usage_cost_s = 0.0
        self._usage_look: asyncio.Task[None] | None = None
        self._looked_at = self._now()
        """After a start, people look."""
        self._somebody_looks = asyncio.Event()
        self.histories = Histories()

    def observation(self, name: str) -> Observation:
        """Return what was last seen of the present server of `name`, and remember that somebody looks."""
        self._looked_at = self._now()
        self._somebody_looks.set()
        seen = self._seen.get(name)
        return NOTHING_OBSERVED if seen is None or seen.life != self._life(name) else seen.observation

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time of each instance's living tree, in seconds, as last seen."""
        current = {name: seen for name, seen in self._seen.items() if seen.life == self._life(name)}
        return {name: seen.cpu_s for name, seen in current.items() if seen.cpu_s is not None}

    async def observe(self) -> None:
        """Look at all instances in turn, again and again."""
        end = self._driver.watch(self._look_soon)
        try:
            while True:
                living = [name for name in self._driver if self._life(name) is not None]
                self._seen = {name: self._seen[name] for name in living if name in self._seen}
                self.histories.keep(living)
                self._look_at_usage_if_due()
                self._ask_in_turn(living)
                await self._pause(len(living))
        finally:
            end()

    def _life(self, name: str) -> Life | None:
        if name not in self._driver:
            return None
        instance = self._driver.entry(name).instance
        return None if instance.pid is None else (instance.incarnation, instance.pid)

    def _of(self, name: str, life: Life) -> Seen:
        """Return what was seen of this life: nothing yet if what was seen is another's."""
        seen = self._seen.get(name)
        if seen is None or seen.life != life:
            seen = self._seen[name] = Seen(life)
        return seen

    # When

    def _is_watched(self) -> bool:
        return self._now() - self._looked_at < LOOKED_AT_S

    async def _pause(self, labs: int) -> None:
        """Wait until the next step; it comes at once if somebody begins to look."""
        pace = WATCHED if self._is_watched() else UNWATCHED
        pause_s = pace.step_s - self._now() % pace.step_s
        if pace is WATCHED:
            await asyncio.sleep(pause_s)
        else:
            self._somebody_looks.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await self._somebody_looks.wait()
            except TimeoutError:
                pass
            else:
                pace = WATCHED
                self._due = max(1.0, self._due)
        self._due += pace.labs_in_a_step(labs)

    def _look_soon(self, name: str, before: Instance, after: Instance) -> None:
        """Look at a lab as soon as it is ready, or was taken over."""
        if after.actual is Actual.READY and (before.actual is not Actual.READY or before.pid != after.pid):
            self._ask(name)

    # Activity

    def _ask_in_turn(self, living: list[str]) -> None:
        if not self._turns:
            self._turns.extend(living)
        while self._due >= 1 and self._turns:
            self._due -= 1
            self._ask(self._turns.popleft())
        if not self._turns:
            self._due %= 1

    def _ask(self, name: str) -> None:
        """Ask one lab; one that does not answer holds up nobody and is not asked twice at a time."""
        if (life := self._life(name)) is None or (name, life) in self._asked:
            return
        entry = self._driver.entry(name)
        if entry.instance.actual is Actual.READY:
            self._asked.add((name, life))
            self._tasks.start(self._look_at_activity(entry.spec, life), f"{name} activity")

    async def _look_at_activity(self, spec: InstanceSpec, life: Life) -> None:
        try:
            if life == self._life(spec.name) and self._of(spec.name, life).cpu_s is None:
                self._look_at_one_usage(spec.name)
            found = await self._eyes.activity(spec)
        except ActivityError as error:
            log.debug("It is not known what goes on in an instance.", instance=spec.name, error=str(error))
            return
        finally:
            self._asked.discard((spec.name, life))
        if life == self._life(spec.name):
            seen = self._of(spec.name, life)
            seen.observation = replace(
                seen.observation,
                kernels=found.kernels,
                connections=found.connections,
                last_activity=found.last_activity,
            )

    # Usage

    def _look_at_usage_if_due(self) -> None:
        pause_s = WATCHED_USAGE_S if self._is_watched() else UNWATCHED_USAGE_S
        due_at = self._usage_at + max(pause_s, self._usage_cost_s / USAGE_SHARE)
        if self._now() >= due_at and (self._usage_look is None or self._usage_look.done()):
            self._usage_look = self._tasks.start(self._look_at_usage(), "usage of all instances")

    async def _look_at_usage(self) -> None:
        self._usage_at = self._now()
        cost_s, stretch_s = 0.0, 0.0
        for name in tuple(self._driver):
            before = self._spent()
            self._look_at_one_usage(name)
            stretch_s += self._spent() - before
            if stretch_s >= AT_A_STRETCH_S:
                cost_s, stretch_s = cost_s + stretch_s, 0.0
                await asyncio.sleep(0)
        self._usage_cost_s = cost_s + stretch_s

    def _look_at_one_usage(self, name: str) -> None:
        if (life := self._life(name)) is None:
            return
        try:
            used = self._eyes.usage(name)
        except OSError as error:
            log.debug("What an instance uses could not be read.", instance=name, error=str(error))
            return
        seen, now = self._of(name, life), self._now()
        percent = None
        if seen.cpu_s is not None and now > seen.cpu_at:
            percent = max(0.0, 100 * (used.cpu_seconds - seen.cpu_s) / (now - seen.cpu_at))
        seen.cpu_s, seen.cpu_at = used.cpu_seconds, now
        seen.observation = replace(seen.observation, cpu_percent=percent, memory_bytes=used.memory_bytes)
        self.histories.note(name, now, percent, used.memory_bytes)
