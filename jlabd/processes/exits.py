"""How a process ended, learnt at once from its pidfd: no polling, no SIGCHLD."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jlabd.processes.spawn import Process
    from jlabd.processes.tree import MemoryKill


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a process; both None if nobody told us: only a parent is told, and a tracer before the parent."""

    code: int | None
    signal: int | None

    @property
    def clean(self) -> bool:
        """Whether it ended by itself and says that all is well."""
        return self.code == 0

    def describe(self, memory_kill: MemoryKill | None = None) -> str:
        """Return how it ended, to follow “the server”; `memory_kill` is what the kernel had done just before."""
        if memory_kill is None or self.clean:
            return self._describe()
        if self.code is None and self.signal in (None, signal.SIGKILL):
            return f"was {memory_kill.describe()}"
        return f"{self._describe()}, just after a process of it was {memory_kill.describe()}"

    def _describe(self) -> str:
        if self.signal is not None:
            return f"was killed by signal {self.signal} ({_name(self.signal)})"
        if self.code is not None:
            return f"exited with status {self.code}"
        return "ended (how is unknown: an earlier jlabd had started it, or somebody traces it)"


async def wait_exit(process: Process) -> Exit:
    """Return how `process` ended, within milliseconds of its end; sees to the handle. Only one caller may wait.

    Cancelled, it leaves the handle open: the exit can be awaited again.
    """
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(process.pidfd, _resolve, ended)
    try:
        await ended
    finally:
        loop.remove_reader(process.pidfd)
    return _exit(process.bury())


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _exit(result: os.waitid_result | None) -> Exit:
    if result is None:
        return Exit(None, None)
    if result.si_code == os.CLD_EXITED:
        return Exit(result.si_status, None)
    return Exit(None, result.si_status)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"
