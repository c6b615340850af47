"""Orphans: the daemon becomes the parent of what its labs leave behind (child subreaper) and buries them.

A status that somebody waits for is never taken: claimed children (`claims`) are left alone, and a dead child that
carries no mark of ours and that nobody claimed, for instance one that some library started, gets a time of grace first.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections import deque

import structlog

from jlabd.processes import claims, marks, procfs

log = structlog.get_logger()

GRACE_S = 10.0
"""How long an unmarked dead child is left to whoever started it."""

_LONGEST_SLEEP_S = 60.0
"""Look that often even if nothing was announced: another thread may have swallowed the signal."""
_ANNOUNCEMENTS = 128 * 64
_PR_SET_CHILD_SUBREAPER = 36


class Reaper:
    """Buries orphans as SIGCHLD announces them. Needs the running event loop of the main thread.

    SIGCHLD is read from a descriptor (signalfd), where many are one: a thousand processes that die at once would fill
    the pipe through which Python hands signals to asyncio, and a SIGTERM for the daemon would be lost. The signal is
    blocked for that, which children inherit: start them with `spawn` or `command.run`, which unblock it.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._graced: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.buried: deque[tuple[int, int]] = deque(maxlen=4096)
        """(pid, RLIMIT_RTTIME) of the dead that carried a mark, for whoever must know that something lived."""
        _become_subreaper()
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        self._deaths = _child_signals()
        self._loop.add_reader(self._deaths, self._some_died)
        self.reap()

    def close(self) -> None:
        """Stop burying."""
        self._loop.remove_reader(self._deaths)
        os.close(self._deaths)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        if self._timer is not None:
            self._timer.cancel()

    def _some_died(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._deaths, _ANNOUNCEMENTS)
        self.reap()

    def reap(self) -> None:
        """Bury every dead child that nobody waits for; what cannot be looked at now is looked at again later."""
        soon = True
        try:
            soon = self.bury_dead()
        except OSError as error:
            log.warning("Cannot look at orphans; trying again.", error=str(error))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(GRACE_S if soon else _LONGEST_SLEEP_S, self.reap)

    def bury_dead(self) -> bool:
        """Do as `reap` does; return whether some of the dead were given grace. Raises OSError."""
        graced: dict[int, float] = {}
        for pid in self.strays():
            self._look_at(pid, graced)
        self._graced = graced
        return bool(graced)

    def _look_at(self, pid: int, graced: dict[int, float]) -> None:
        stat = procfs.stat(pid)
        if stat is None or not stat.gone:
            return
        limit = procfs.realtime_limit(pid)
        if limit is not None and marks.is_ours(limit):
            self.buried.append((pid, limit))
            _bury(pid)
            return
        since = self._graced.get(pid, time.monotonic())
        if time.monotonic() - since < GRACE_S * 0.9:
            graced[pid] = since
        else:
            log.info("A process that nobody waited for has ended.", pid=pid, program=stat.name)
            _bury(pid)

    def strays(self) -> list[int]:
        """Return our children that nobody claimed, dead or alive: orphans. Raises OSError."""
        return [pid for pid in procfs.children() if not claims.is_claimed(pid)]


def _bury(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def _become_subreaper() -> None:
    """Make orphaned descendants our children instead of init's. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _child_signals() -> int:
    """Return a descriptor that becomes readable when a child died (the signal must be blocked). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    signals = ctypes.create_string_buffer(128)  # sigset_t
    libc.sigemptyset(signals)
    libc.sigaddset(signals, signal.SIGCHLD)
    descriptor: int = libc.signalfd(-1, signals, os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor
