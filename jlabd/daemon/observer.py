"""The observer: what labs cost and what happens in them, asked rarely, and more often while somebody looks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

import structlog

from jlabd.core.state import AT_REST, Actual
from jlabd.daemon.driver import Driver
from jlabd.daemon.hands import RealHands
from jlabd.jupyter.activity import Activity, ActivityError, activity
from jlabd.status.view import NOTHING_OBSERVED, Observation

log = structlog.get_logger()

LOOKED_AT_S = 15.0
"""Somebody who asked for the status so recently is probably still looking."""
PAUSE_S = 3.0
"""Between two rounds while somebody looks."""
UNWATCHED_PAUSE_S = 60.0
ACTIVITY_TIMEOUT_S = 5.0
AT_A_TIME = 8
"""Labs that are asked at the same time: one that hangs does not hold up the others."""


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
        self._looked_at = float("-inf")
        self._somebody_looks = asyncio.Event()

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
        while True:
            await self._look_at_all()
            self._seen = {name: seen for name, seen in self._seen.items() if name in self._driver}
            await self._pause()

    async def _look_at_all(self) -> None:
        few = asyncio.Semaphore(AT_A_TIME)

        async def look_at(name: str) -> None:
            async with few:
                await self._observe_one(name)

        await asyncio.gather(*(look_at(name) for name in tuple(self._driver)))

    async def _pause(self) -> None:
        if time.monotonic() - self._looked_at < LOOKED_AT_S:
            await asyncio.sleep(PAUSE_S)
            return
        self._somebody_looks.clear()
        try:
            await asyncio.wait_for(self._somebody_looks.wait(), UNWATCHED_PAUSE_S)
        except TimeoutError:
            return

    async def _observe_one(self, name: str) -> None:
        if name not in self._driver:
            return
        instance = self._driver.entry(name).instance
        if instance.pid is None:
            self._seen.pop(name, None)
            self._samples.pop(name, None)
            return
        sample = self._samples.get(name)
        same_life = sample is not None and sample.incarnation == instance.incarnation
        seen = self._seen.get(name, NOTHING_OBSERVED) if same_life else NOTHING_OBSERVED
        try:
            seen = self._with_usage(name, instance.incarnation, seen)
        except OSError as error:
            log.debug("What an instance uses could not be read.", instance=name, error=str(error))
        if instance.actual is Actual.READY:
            seen = _with_activity(seen, await self._activity(name))
        self._seen[name] = seen

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


def _with_activity(seen: Observation, found: Activity | None) -> Observation:
    if found is None:
        return seen
    return replace(seen, kernels=found.kernels, connections=found.connections, last_activity=found.last_activity)
