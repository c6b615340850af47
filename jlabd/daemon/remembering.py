"""Remembering: writes down what a later daemon needs, soon after each change and never in anybody's way."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from jlabd.core.memory import Memory, remember
from jlabd.core.state import Desired, Instance
from jlabd.daemon.driver import Driver
from jlabd.daemon.hands import RealHands
from jlabd.store import Store
from jlabd.threads import in_thread

PAUSE_S = 0.2
"""Between two writes: many changes at once are one write. What is lost with a daemon that dies in between is only what
can be found again by looking at the processes; so what somebody asked for is written at once."""


class Remembering:
    """Keeps the state file in line with the table."""

    def __init__(self, driver: Driver, hands: RealHands, store: Store) -> None:
        self._driver = driver
        self._hands = hands
        self._store = store
        self._changed = asyncio.Event()
        self._asked_for = asyncio.Event()
        self._desired: dict[str, Desired] = {}
        driver.watch(self._seen)

    def freeze_desired(self) -> None:
        """Remember what is desired now, whatever follows: the daemon's own end is no request of the operator's."""
        self._desired = {name: self._driver.entry(name).instance.desired for name in self._driver}

    async def keep_writing(self) -> None:
        """Write for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not await self._write():
                self._changed.set()
                await asyncio.sleep(10 * PAUSE_S)
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(PAUSE_S):
                await self._asked_for.wait()
        except TimeoutError:
            return
        self._asked_for.clear()

    async def _write(self) -> bool:
        memories = self.memories()
        try:
            return await in_thread(lambda: self._store.write(memories))
        except OSError:  # no thread can be had
            return False

    def write_now(self) -> None:
        """Write before the daemon ends."""
        self._store.write(self.memories())

    def memories(self) -> dict[str, Memory]:
        """Return what is to be remembered of each instance."""
        now = time.monotonic()
        return {name: self._memory(name, now) for name in self._driver}

    def _memory(self, name: str, now: float) -> Memory:
        instance = self._driver.entry(name).instance
        memory = remember(instance, self._hands.server(name), self._hands.fields(name), now)
        return replace(memory, desired=self._desired.get(name, instance.desired))

    def _seen(self, _name: str, before: Instance, after: Instance) -> None:
        self._changed.set()
        if before.desired is not after.desired:
            self._asked_for.set()
