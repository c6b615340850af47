"""Background tasks that are neither lost nor silent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger()


class Turnstile:
    """Lets one task pass in each turn of the event loop, so that hundreds that all fork do not hold up everybody."""

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()

    async def come(self) -> None:
        """Return when it is the caller's turn; what it does until its next await is one turn of the loop."""
        async with self._one_at_a_time:
            await asyncio.sleep(0)


class Tasks:
    """Holds references to running tasks (the loop keeps weak ones) and logs what none of them was meant to raise."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` in the background; `name` is for the log."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    async def cancel_all(self) -> None:
        """End all tasks and wait until they have ended."""
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("A background task failed; this is a bug in jlabd.", task=task.get_name(), exc_info=error)
