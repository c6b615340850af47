"""The way down: every instance is stopped, side by side, and the daemon waits for the slowest."""

from __future__ import annotations

import asyncio

import structlog

from jlabd.core.events import StopRequested
from jlabd.core.state import AT_REST, Desired, Instance
from jlabd.daemon.driver import Driver
from jlabd.daemon.manager import notify

log = structlog.get_logger()

MARGIN_S = 15.0
"""Time to kill trees, clear away and end, beyond the longest stop.timeout."""


class Shutdown:
    """Stops all instances of a driver."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._all_stopped = asyncio.Event()
        self._begun = False

    async def stop_all(self) -> None:
        """Ask all instances to stop, and return when nothing runs any more."""
        self._begun = True
        log.info("jlabd is stopping; every instance ends.")
        notify("STOPPING=1", "STATUS=stopping all instances", f"EXTEND_TIMEOUT_USEC={self._longest_s():.0f}000000")
        end = self._driver.watch(self._look)
        for name in self._names():
            # What is on its way down already would be killed by a second request.
            if self._driver.entry(name).instance.desired is Desired.RUNNING:
                self._driver.post(name, StopRequested("jlabd is stopping"))
        self._look_whether_all_stopped()
        await self._all_stopped.wait()
        end()

    def hurry(self) -> None:
        """Kill what still takes its time; nothing happens before `stop_all`."""
        if not self._begun:
            return
        log.warning("Asked to end once more: what has not ended yet is killed.")
        for name in self._names():
            self._driver.post(name, StopRequested("jlabd is stopping, at once"))

    def _names(self) -> tuple[str, ...]:
        return tuple(self._driver)

    def _longest_s(self) -> float:
        """Return how long the service manager must wait for the slowest instance."""
        return MARGIN_S + max((self._driver.entry(name).spec.stop.timeout_s for name in self._names()), default=0.0)

    def _look(self, _name: str, _before: Instance, _after: Instance) -> None:
        self._look_whether_all_stopped()

    def _look_whether_all_stopped(self) -> None:
        if all(self._driver.entry(name).instance.actual in AT_REST for name in self._names()):
            self._all_stopped.set()
