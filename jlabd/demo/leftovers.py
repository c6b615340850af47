"""What a demo that was killed may have left: found by what only its own processes have, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from pathlib import Path

from jlabd.demo.children import NGINX_NAME
from jlabd.demo.place import Place
from jlabd.demo.settings import LABS
from jlabd.processes.marked_trees import MarkedTrees

DAEMON_PATIENCE_S = 40.0
"""How long a daemon may take to stop its labs: their stop.timeout of 15 s, twice, and some more."""


async def sweep(place: Place) -> None:
    """End every process of an earlier demo at this place; return when none is left. The demo's own must have ended.

    Raises OSError if looking failed.
    """
    if not place.runtime_dir.exists():
        return
    await _end_daemon(place.runtime_dir / "lock")
    trees = MarkedTrees(str(place.runtime_dir))
    try:
        for name in (*LABS, NGINX_NAME):
            trees.expect(name, None)
            await trees.kill(name)
    finally:
        trees.close()


async def _end_daemon(lock: Path) -> None:
    """End the daemon that holds `lock`: on its own accord if it can (it was told when its demo died)."""
    deadline = asyncio.get_running_loop().time() + DAEMON_PATIENCE_S
    asked = False
    while (pid := _holder(lock)) is not None:
        with contextlib.suppress(ProcessLookupError):
            if asyncio.get_running_loop().time() > deadline:
                os.kill(pid, signal.SIGKILL)
            elif not asked:
                os.kill(pid, signal.SIGTERM)
                asked = True
        await asyncio.sleep(0.1)


def _holder(lock: Path) -> int | None:
    """Return the process that holds the lock of a runtime folder, None if nobody does."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 20, 0).strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None
