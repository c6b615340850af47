"""The demo's processes: started in sessions of their own, so that Ctrl-C reaches the demo alone, and always ended."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from jlabd.processes.marks import mark_of, realtime_limit

Process = asyncio.subprocess.Process

NGINX_NAME = ".nginx"
"""Marks nginx's processes, as an instance's are marked; no instance can have this name."""

_PR_SET_PDEATHSIG = 1


def with_parent(limit: int | None = None) -> Callable[[], None]:
    """Return what a child does before its program starts: end when the demo is killed, and carry a mark.

    `limit` is the mark, a number for RLIMIT_RTTIME that no program notices (see `jlabd.processes.marks`).
    """
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:
            os._exit(1)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_RTTIME, (limit, limit))

    return prepare


def nginx_limit(runtime_dir: Path) -> int:
    """Return the mark of the demo's nginx."""
    return realtime_limit(mark_of(str(runtime_dir), NGINX_NAME))


async def start(argv: list[str], log: Path | None = None, limit: int | None = None) -> Process:
    """Start a program; what it says goes to the end of `log`, or to where the demo's own words go. Raises OSError."""
    output = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=with_parent(limit),
        )
    finally:
        if output is not None:
            os.close(output)


async def capture(argv: list[str]) -> tuple[int, str]:
    """Run a short command; return its exit status and what it printed on stdout. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=with_parent(),
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        await end(process, patience_s=0)
        raise
    return await process.wait(), output.decode(errors="replace")


async def end(process: Process, patience_s: float, again: asyncio.Event | None = None) -> None:
    """Ask a process to end, wait for it, and kill it after `patience_s`. Each time `again` is set it is asked anew."""
    _signal(process, signal.SIGTERM)
    gone = asyncio.ensure_future(process.wait())
    deadline = asyncio.get_running_loop().time() + patience_s
    while not gone.done() and (left := deadline - asyncio.get_running_loop().time()) > 0:
        asked = asyncio.ensure_future(again.wait()) if again else asyncio.get_running_loop().create_future()
        await asyncio.wait({gone, asked}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if again and again.is_set():
            again.clear()
            _signal(process, signal.SIGTERM)
        asked.cancel()
    _signal(process, signal.SIGKILL)
    await gone


def _signal(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
