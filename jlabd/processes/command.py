"""Running a short command such as `nginx -t` and reading what it says, without threads and without waiting for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from jlabd.core.launch import Launch
from jlabd.processes.exits import Exit, wait_exit
from jlabd.processes.refusals import SpawnError, ViewRefusedError
from jlabd.processes.spawn import Process, spawn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OUTPUT_LIMIT = 64 * 1024
"""Bytes that are kept of a command's output, unless more are asked for."""
_PIECE = 64 * 1024

NOT_RUN = 127
"""Status of a command that could not be started; its output says why."""

_PRIVATE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""The daemon's own affairs with systemd."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command went."""

    status: int
    """Its exit status; 128 + n if signal n killed it; NOT_RUN if it could not be started."""
    output: str
    """What it wrote to stdout and stderr, from the beginning as far as the limit."""
    timed_out: bool = False
    """It was killed, with its process group, because it took too long."""
    without_view: bool = False
    """It was not started, because it could not be given the view that was asked for."""


async def run(
    argv: Sequence[str],
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    *,
    view: tuple[str, str] | None = None,
    limit: int = OUTPUT_LIMIT,
) -> CommandResult:
    """Run a command as the daemon's own user in its folder; `env` None is the daemon's environment. Raises nothing.

    With `view` = (what, where) the command, and nobody else, sees the folder `what` in the place of the folder `where`.
    `limit` bytes of its output are kept. It ends when the command does, also if a grandchild keeps the output open.
    Cancelled, it kills the command.
    """
    if env is None:
        env = {key: value for key, value in os.environ.items() if key not in _PRIVATE}
    launch = Launch(argv=tuple(argv), env=env, cwd="", account=None, umask=0o022, view=view)
    try:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return CommandResult(NOT_RUN, f"Cannot run {argv[0]}: {error.strerror}.")
    with _Output(reader, limit) as output:
        try:
            os.set_blocking(writer, True)
            process = await spawn(launch, listen_fd=None, output_fd=writer)
        except SpawnError as error:
            return CommandResult(NOT_RUN, error.reason, without_view=isinstance(error, ViewRefusedError))
        finally:
            os.close(writer)
        ended, timed_out = await _ended(process, timeout_s)
        return CommandResult(_status(ended), output.text(), timed_out)


async def _ended(process: Process, timeout_s: float) -> tuple[Exit, bool]:
    try:
        async with asyncio.timeout(timeout_s):
            return await wait_exit(process), False
    except TimeoutError:
        _kill_group(process)
        return await wait_exit(process), True
    except asyncio.CancelledError:
        _kill_group(process)
        process.abandon()
        raise


def _kill_group(process: Process) -> None:
    """Kill the command and what it started; its pid is the group's and stays taken until it is reaped."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _status(ended: Exit) -> int:
    if ended.signal is not None:
        return 128 + ended.signal
    return NOT_RUN if ended.code is None else ended.code


class _Output:
    """The read end of a command's output: read all along so that it never blocks, kept as far as the limit."""

    def __init__(self, reader: int, limit: int) -> None:
        self._reader = reader
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._data = bytearray()
        self._lost = 0

    def __enter__(self) -> Self:
        self._loop.add_reader(self._reader, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._reader)
        os.close(self._reader)

    def text(self) -> str:
        """Return what there is, after a last look."""
        while self._take():
            pass
        note = f"\n[{self._lost} more bytes]" if self._lost else ""
        return self._data.decode(errors="replace") + note

    def _take(self) -> bool:
        try:
            piece = os.read(self._reader, _PIECE)
        except BlockingIOError:
            return False
        room = self._limit - len(self._data)
        self._data += piece[:room]
        self._lost += len(piece[room:])
        if not piece:
            self._loop.remove_reader(self._reader)
        return bool(piece)
