"""What is remembered while no daemon runs."""

from __future__ import annotations

from dataclasses import replace

from jlabd.core.memory import Memory, Server, changed_fields, recall, remember
from jlabd.core.state import Actual, Desired, Instance


def test_recall_is_remember():
    """All that matters comes back, but not who the server is: that has to be looked up."""
    instance = Instance(
        desired=Desired.RUNNING,
        actual=Actual.READY,
        reason="ready after 3.0 s",
        since=100.0,
        incarnation=4,
        pid=77,
        ready_at=103.0,
        probe_at=150.0,
        failures=2,
        restarts=9,
    )
    memory = remember(instance, Server(77, 555), {}, now=110.0)
    assert recall(memory, now=200.0) == replace(instance, pid=None, probe_at=None)
    assert memory.server == Server(77, 555)


def test_moments_to_come_are_not_believed():
    """A file that speaks of the future was not written by this machine's clock."""
    instance = Instance(actual=Actual.READY, since=500.0, ready_at=600.0)
    again = recall(remember(instance, None, {}, now=700.0), now=10.0)
    assert (again.since, again.ready_at) == (10.0, 10.0)


def test_backoff_keeps_what_remains():
    """Only a backoff has a deadline that outlives the daemon, and one that passed is due at once."""
    backoff = Instance(desired=Desired.RUNNING, actual=Actual.BACKOFF, since=0.0, deadline=30.0)
    assert recall(remember(backoff, None, {}, now=10.0), now=1000.0).deadline == 1020.0
    assert recall(remember(backoff, None, {}, now=40.0), now=1000.0).deadline == 1000.0
    starting = Instance(desired=Desired.RUNNING, actual=Actual.STARTING, since=0.0, deadline=30.0)
    assert recall(remember(starting, None, {}, now=10.0), now=1000.0).deadline is None


def test_changed_fields_ignores_what_one_side_does_not_know():
    """An upgrade that brings new keys restarts nobody."""
    memory = Memory(Desired.RUNNING, Actual.READY, "", 1, 0, 0, 0.0, None, None, None, {"a": "1", "b": "2", "old": "3"})
    assert changed_fields(memory, {"a": "1", "b": "9", "new": "4"}) == ("b",)
