"""The only clock of the daemon: the event loop's, which is monotonic, and its one alarm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LoopTimer:
    """Implements `driver.Timer` with the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """Return seconds of the monotonic clock."""
        return self._loop.time()

    def alarm_at(self, time: float, wake: Callable[[], None]) -> None:
        """Have `wake` called at `time`; replaces the alarm set before."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(time, wake)
