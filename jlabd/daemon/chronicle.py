"""The chronicle: tells log and journal of what becomes of instances, with the machine's own reasons, word for word."""

from __future__ import annotations

import structlog

from jlabd.core.arrival import TAKEN_OVER
from jlabd.core.state import Actual, Instance
from jlabd.processes.tree import MemoryKill
from jlabd.status.journal import Journal
from jlabd.warm.parents import News

log = structlog.get_logger()

WORRYING = frozenset({Actual.FAILED, Actual.BACKOFF, Actual.UNHEALTHY})
REPEATS_ITSELF = frozenset({Actual.STARTING, Actual.UNHEALTHY})
"""States in which the reason changes with each probe."""


class Chronicle:
    """A watcher of the driver's table."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def note(self, name: str, before: Instance, after: Instance) -> None:
        """Tell of a change, if it is news."""
        if not is_news(before, after):
            return
        level = log.warning if after.actual in WORRYING else log.info
        level(f"{name} is {after.actual.value}: {after.reason}.", instance=name, pid=after.pid)
        only_announced = before.actual is after.actual and after.sleep_at is not None
        self._journal.record(
            name,
            "warning" if only_announced else "state",
            None if only_announced else after.actual.value,
            after.reason,
            incarnation=after.incarnation,
            pid=after.pid,
            **_click_to_ready(before, after),
        )

    def note_memory_kill(self, kill: MemoryKill) -> None:
        """Tell that the kernel killed processes of an instance, which may live on without them."""
        who = "a process of it was" if kill.processes == 1 else f"{kill.processes} processes of it were"
        reason = f"{who} {kill.describe()}"
        log.warning("Memory ran out in an instance.", instance=kill.instance, reason=reason)
        self._journal.record(kill.instance, "memory", None, reason, processes=kill.processes, limit=kill.limit)

    def note_parent(self, news: News) -> None:
        """Tell of a warm parent that is ready, or cannot be had."""
        level = log.info if news.good else log.warning
        level(f"{news.sentence[0].upper()}{news.sentence[1:]}.", venv=news.venv)
        self._journal.record(None, "warm", None, news.sentence)

    def note_cold(self, name: str, reason: str) -> None:
        """Tell that an instance starts cold although it was to be warm."""
        log.info("An instance starts cold.", instance=name, reason=reason)
        self._journal.record(name, "cold", None, f"starts cold: {reason}")


def is_news(before: Instance, after: Instance) -> bool:
    """Say whether people are to be told: of each new state and reason, but not of each failed probe."""
    if (before.actual, before.incarnation) != (after.actual, after.incarnation):
        return True
    if before.reason == after.reason:
        return False
    return after.reason == TAKEN_OVER or after.actual not in REPEATS_ITSELF


def _click_to_ready(before: Instance, after: Instance) -> dict[str, float]:
    """Return how long the first visitor has waited, if she did and the waiting is over."""
    if before.actual is Actual.STARTING and after.actual is Actual.READY and before.visited_at is not None:
        return {"click_to_ready_s": round(after.since - before.visited_at, 3)}
    return {}
