"""The chronicle: tells log and journal of what becomes of instances, with the machine's own reasons, word for word."""

from __future__ import annotations

import structlog

from jlabd.core.arrival import TAKEN_OVER
from jlabd.core.state import Actual, Instance
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
        lost = after.memory_kills > before.memory_kills
        level = log.warning if lost or after.actual in WORRYING else log.info
        level(f"{name} is {after.actual.value}: {after.reason}.", instance=name, pid=after.pid)
        only_announced = before.actual is after.actual and (lost or after.sleep_at is not None)
        self._journal.record(
            name,
            "warning" if only_announced else "state",
            None if only_announced else after.actual.value,
            after.reason,
            incarnation=after.incarnation,
            pid=after.pid,
            **_click_to_ready(before, after),
        )

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
    if after.memory_kills > before.memory_kills:
        return True
    return after.reason == TAKEN_OVER or after.actual not in REPEATS_ITSELF


def _click_to_ready(before: Instance, after: Instance) -> dict[str, float]:
    """Return how long the first visitor has waited, if she did and the waiting is over."""
    if before.actual is Actual.STARTING and after.actual is Actual.READY and before.visited_at is not None:
        return {"click_to_ready_s": round(after.since - before.visited_at, 3)}
    return {}
