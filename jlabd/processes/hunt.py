"""Killing by marks: look at all processes, kill those of the instance, and look again until nothing is left.

However many instances are being killed, one look serves them all.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from jlabd.processes import procfs
from jlabd.processes.marks import Snapshot, Target, take_snapshot_gently

if TYPE_CHECKING:
    from jlabd.processes.reaper import Reaper

log = structlog.get_logger()

REPORT_EVERY_S = 10.0
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.25
_CHASE_S = 0.02


@dataclass(eq=False, slots=True)
class Hunt:
    """One instance that is being killed."""

    target: Target
    clean_looks: int
    """How many looks in a row must find nothing."""
    alone: bool
    """No other instance runs as this user: orphans of hers belong to this one."""
    done: asyncio.Future[None]
    clean: int = 0
    pause_s: float = _FIRST_PAUSE_S
    struck: set[int] = field(default_factory=set)
    beyond: set[int] = field(default_factory=set)
    """Processes that the system does not let us signal."""
    report_at: float = field(default_factory=lambda: time.monotonic() + REPORT_EVERY_S)


class Hunter:
    """Runs one task while anything is being killed."""

    def __init__(self, reaper: Reaper | None) -> None:
        self._reaper = reaper
        self._hunts: list[Hunt] = []
        self._task: asyncio.Task[None] | None = None

    async def kill(self, target: Target, *, clean_looks: int, alone: bool = False) -> None:
        """Kill every process of `target`; return when `clean_looks` looks in a row found none."""
        hunt = Hunt(target, clean_looks, alone, asyncio.get_running_loop().create_future())
        self._hunts.append(hunt)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="hunt")
            self._task.add_done_callback(self._ended)
        try:
            await hunt.done
        finally:
            self._hunts.remove(hunt)

    async def _run(self) -> None:
        if self._reaper is not None:
            self._reaper.buried.clear()
        while hunts := [hunt for hunt in self._hunts if not hunt.done.done()]:
            try:
                since = min(hunt.target.since for hunt in hunts)
                snapshot = await take_snapshot_gently({hunt.target.limit for hunt in hunts}, since)
                buried = self._newly_buried()
                for hunt in hunts:
                    self._strike(hunt, snapshot, buried)
                    await asyncio.sleep(0)
            except OSError as error:  # no descriptors or memory: the killed ones will free some
                log.warning("Cannot look at the processes; trying again.", error=str(error))
                await asyncio.sleep(_LONGEST_PAUSE_S)
            await asyncio.sleep(min((hunt.pause_s for hunt in hunts), default=0))

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        for hunt in self._hunts:
            if error is not None and not hunt.done.done():
                hunt.done.set_exception(error)

    def _newly_buried(self) -> list[tuple[int, int]]:
        if self._reaper is None:
            return []
        self._reaper.bury_dead()
        buried = list(self._reaper.buried)
        self._reaper.buried.clear()
        return buried

    def _strike(self, hunt: Hunt, snapshot: Snapshot, buried: list[tuple[int, int]]) -> None:
        """Kill what the snapshot shows of the instance, and judge whether anything can be left."""
        if hunt.done.done():
            return
        strays = frozenset(self._reaper.strays()) if self._reaper is not None and hunt.alone else frozenset()
        members = snapshot.members(hunt.target, strays)
        living = [stat for pid, stat in members.items() if pid not in hunt.beyond]
        fleeing = any(limit == hunt.target.limit and pid not in hunt.struck for pid, limit in buried)
        if not living and not fleeing:
            hunt.clean, hunt.pause_s = hunt.clean + 1, 0.0
            if hunt.clean >= hunt.clean_looks:
                hunt.done.set_result(None)
            return
        hunt.clean, hunt.pause_s = 0, min(max(hunt.pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        for stat in living:
            _kill(stat, hunt)
        if fleeing:
            self._chase(hunt)
        _report(hunt, living)

    def _chase(self, hunt: Hunt) -> None:
        """Catch a program that forks and ends faster than we look: each of its orphans is our child for a moment.

        Our own children can be signalled by pid: theirs stay taken until we bury them.
        """
        until = time.monotonic() + _CHASE_S
        while self._reaper is not None and time.monotonic() < until:
            for pid in self._reaper.strays():
                if pid not in hunt.struck and procfs.realtime_limit(pid) == hunt.target.limit:
                    os.kill(pid, signal.SIGKILL)
                    hunt.struck.add(pid)


def _kill(stat: procfs.Stat, hunt: Hunt) -> None:
    """Kill the very process that was looked at, never a later one with its pid."""
    hunt.struck.add(stat.pid)
    try:
        pidfd = os.pidfd_open(stat.pid)
    except ProcessLookupError:
        return
    try:
        now = procfs.stat(stat.pid)
        if now is not None and now.start_ticks == stat.start_ticks:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        hunt.beyond.add(stat.pid)
        log.warning(
            "A process of the instance belongs to another user and jlabd may not end it; it is left running.",
            instance=hunt.target.name,
            pid=stat.pid,
            program=stat.name,
        )
    finally:
        os.close(pidfd)


def _report(hunt: Hunt, living: list[procfs.Stat]) -> None:
    now = time.monotonic()
    if now >= hunt.report_at:
        hunt.report_at = now + REPORT_EVERY_S
        log_survivors(hunt.target.name, living)


def log_survivors(name: str, living: list[procfs.Stat]) -> None:
    """Say which processes do not die although they were killed; the system's own business holds them."""
    log.warning(
        "Some processes do not die; they wait inside the system, often for a disk or file server.",
        instance=name,
        processes=[f"{stat.pid} {stat.name} (state {stat.state})" for stat in living],
    )
