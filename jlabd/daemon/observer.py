"""The observer: what labs cost and what happens in them, asked rarely, and more often while somebody looks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

import structlog

from jlabd.core.state import AT_REST, Actual, Instance
from jlabd.daemon.driver import Driver
from jlabd.daemon.hands import RealHands
from jlabd.jupyter.activity import Activity, ActivityError, activity
from jlabd.status.history import Histories
from jlabd.status.view import NOTHING_OBSERVED, Observation

log = structlog.get_logger()

LOOKED_AT_S = 15.0
"""Somebody who asked for the status so recently is probably still looking."""
ACTIVITY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often each lab is asked: every `shortest_s`, but not more than `at_most` labs a second altogether.

    So that the daemon's effort has a limit, however many labs there are.
    """

    shortest_s: float
    at_most: float

    def round_s(self, labs: int) -> float:
        """Return how long a round over so many labs takes."""
        return max(self.shortest_s, labs / self.at_most)


WATCHED = Pace(2.0, 20.0)
UNWATCHED = Pace(5.0, 5.0)
WATCHED_USAGE_S = 3.0
UNWATCHED_USAGE_S = 60.0
"""Between two looks at what everybody uses: without cgroups a look goes through all processes of the machine."""


@dataclass(frozen=True, slots=True)
class Sample:
    """CPU time of a tree, in seconds, at a moment of the monotonic clock."""

    incarnation: int
    at: float
    cpu_s: float


class Observer:
    """Keeps the last observation of each instance."""

    def __init__(self, driver: Driver, hands: RealHands) -> None:
        self._driver = driver
        self._hands = hands
        self._seen: dict[str, Observation] = {}
        self._samples: dict[str, Sample] = {}
        self._asked: set[str] = set()
        self._usage_at = 0.0
        self._looked_at = float("-inf")
        self._somebody_looks = asyncio.Event()
        self.histories = Histories()

    def observation(self, name: str) -> Observation:
        """Return what was last seen of `name`, and remember that somebody looks."""
        self._looked_at = time.monotonic()
        self._somebody_looks.set()
        if self._driver.entry(name).instance.actual in AT_REST:
            return NOTHING_OBSERVED
        return self._seen.get(name, NOTHING_OBSERVED)

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time of each instance's living tree, in seconds, as last seen."""
        return {name: sample.cpu_s for name, sample in self._samples.items()}

    async def observe(self) -> None:
        """Look at all instances again and again."""
        async with asyncio.TaskGroup() as looks:
            end = self._driver.watch(lambda name, before, after: self._look_soon(looks, name, before, after))
            try:
                while True:
                    await self._round(looks)
            finally:
                end()

    async def _round(self, looks: asyncio.TaskGroup) -> None:
        """Ask each lab once, evenly over the time of the round; begin anew as soon as somebody looks."""
        names = [name for name in self._driver if self._driver.entry(name).instance.pid is not None]
        self._seen = {name: self._seen[name] for name in names if name in self._seen}
        self._samples = {name: self._samples[name] for name in names if name in self._samples}
        self.histories.keep(names)
        watched = self._is_watched()
        if time.monotonic() >= self._usage_at:
            await self._look_at_usage(names)
            self._usage_at = time.monotonic() + (WATCHED_USAGE_S if watched else UNWATCHED_USAGE_S)
        pause_s = (WATCHED if watched else UNWATCHED).round_s(len(names)) / max(1, len(names))
        for name in names or ("",):
            self._look(looks, name)
            if await self._somebody_begins_to_look(pause_s):
                self._usage_at = 0.0
                return

    def _is_watched(self) -> bool:
        return time.monotonic() - self._looked_at < LOOKED_AT_S

    async def _somebody_begins_to_look(self, within_s: float) -> bool:
        if self._is_watched():
            await asyncio.sleep(within_s)
            return False
        self._somebody_looks.clear()
        try:
            async with asyncio.timeout(within_s):
                return await self._somebody_looks.wait()
        except TimeoutError:
            return False

    def _look_soon(self, looks: asyncio.TaskGroup, name: str, before: Instance, after: Instance) -> None:
        """Look at a lab as soon as it is ready."""
        if after.actual is Actual.READY and before.actual is not Actual.READY:
            self._look_at_one_usage(name)
            self._look(looks, name)

    def _look(self, looks: asyncio.TaskGroup, name: str) -> None:
        """Ask one lab; one that does not answer holds up nobody and is not asked twice at a time."""
        if name in self._driver and name not in self._asked:
            self._asked.add(name)
            looks.create_task(self._look_at_activity(name)).add_done_callback(lambda _: self._asked.discard(name))

    async def _look_at_usage(self, names: list[str]) -> None:
        for name in names:
            self._look_at_one_usage(name)
            await asyncio.sleep(0)

    def _look_at_one_usage(self, name: str) -> None:
        if name not in self._driver or (instance := self._driver.entry(name).instance).pid is None:
            return
        sample = self._samples.get(name)
        if sample is None or sample.incarnation != instance.incarnation:
            self._seen.pop(name, None)
        try:
            seen = self._with_usage(name, instance.incarnation, self._seen.get(name, NOTHING_OBSERVED))
        except OSError as error:
            log.debug("What an instance uses could not be read.", instance=name, error=str(error))
            return
        self._seen[name] = seen
        self.histories.note(name, time.monotonic(), seen.cpu_percent, seen.memory_bytes)

    async def _look_at_activity(self, name: str) -> None:
        if name not in self._driver:
            return
        instance = self._driver.entry(name).instance
        if instance.actual is not Actual.READY or (found := await self._activity(name)) is None:
            return
        if name in self._driver and self._driver.entry(name).instance.incarnation == instance.incarnation:
            seen = self._seen.get(name, NOTHING_OBSERVED)
            self._seen[name] = replace(
                seen, kernels=found.kernels, connections=found.connections, last_activity=found.last_activity
            )

    def _with_usage(self, name: str, incarnation: int, seen: Observation) -> Observation:
        used = self._hands.around.trees.usage(name)
        now = time.monotonic()
        before = self._samples.get(name)
        self._samples[name] = Sample(incarnation, now, used.cpu_seconds)
        percent = None
        if before is not None and before.incarnation == incarnation and now > before.at:
            percent = max(0.0, 100 * (used.cpu_seconds - before.cpu_s) / (now - before.at))
        return replace(seen, cpu_percent=percent, memory_bytes=used.memory_bytes)

    async def _activity(self, name: str) -> Activity | None:
        entry = self._driver.entry(name)
        token = self._hands.token(name)
        if not token:
            return None
        try:
            return await activity(entry.spec.listen, entry.spec.base_url, token, ACTIVITY_TIMEOUT_S)
        except ActivityError:
            return None
