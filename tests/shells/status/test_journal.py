"""The journal, and its readers."""

import asyncio
from datetime import UTC, datetime

import pytest

from jlabd.status.journal import Journal


def _journal(capacity=3):
    return Journal(capacity, lambda: datetime(2026, 3, 1, tzinfo=UTC))


def test_record_and_recent():
    """The last events are kept, the oldest go first, and details are part of the event."""
    journal = _journal()
    for n in range(5):
        journal.record("alice", "state", "ready", f"reason {n}", pid=n)
    assert [event["seq"] for event in journal.recent(10)] == [3, 4, 5]
    assert journal.recent(0) == []
    assert journal.recent(1) == [
        {
            "seq": 5,
            "time": "2026-03-01T00:00:00.000Z",
            "instance": "alice",
            "kind": "state",
            "state": "ready",
            "reason": "reason 4",
            "pid": 4,
        }
    ]


async def test_subscriber_gets_each_event_once_from_the_moment_of_subscribing():
    """A reader sees what happens after it came, in order, also what happened before it began to wait."""
    journal = _journal()
    journal.record(None, "reload", None, "before")
    with journal.subscribe() as events:
        journal.record(None, "reload", None, "one")
        assert (await anext(events))["reason"] == "one"
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        journal.record(None, "reload", None, "two")
        assert (await waiting)["reason"] == "two"


async def test_slow_reader_loses_the_oldest_and_is_told_how_many():
    """A reader that does not read costs a queue of fixed length, and learns what it missed."""
    journal = _journal()
    with journal.subscribe(queue=2) as events:
        for n in range(5):
            journal.record("alice", "state", "ready", f"reason {n}")
        notice = await anext(events)
        assert (notice["kind"], notice["lost"]) == ("lost", 3)
        assert [(await anext(events))["reason"] for _ in range(2)] == ["reason 3", "reason 4"]


async def test_closed_subscription_ends_after_what_was_queued():
    """Closing keeps what came before and takes nothing more."""
    journal = _journal()
    events = journal.subscribe()
    journal.record(None, "reload", None, "one")
    events.close()
    journal.record(None, "reload", None, "too late")
    assert [event["reason"] async for event in events] == ["one"]


async def test_closing_wakes_the_reader():
    """A reader that waits while the daemon ends does not wait for ever."""
    events = _journal().subscribe()
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    events.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 5)
