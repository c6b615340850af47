"""The journal: what happened to whom and why, for `jlabctl events` and whoever else listens.

The last events are kept in memory. Each subscriber has a queue with an end: one that reads too slowly loses the oldest
events and is told how many, and never makes the daemon wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from jlabd.status.view import rfc3339

Event = dict[str, Any]
"""{"seq", "time", "instance", "kind", "state", "reason", …}: `seq` counts from 1; `instance` is None for the daemon's
own affairs; `state` is the instance's new state, None if it did not change."""

QUEUE = 256
"""Events that wait for one subscriber."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Journal:
    """The last `capacity` events, and those who wait for the next."""

    def __init__(self, capacity: int = 1000, now: Callable[[], datetime] = _utc_now) -> None:
        self._events: deque[Event] = deque(maxlen=capacity)
        self._subscriptions: set[Subscription] = set()
        self._now = now
        self._seq = 0

    def record(self, instance: str | None, kind: str, state: str | None, reason: str, **details: Any) -> Event:
        """Note that `kind` happened, tell the subscribers, and return the event. `details` must be fit for JSON."""
        self._seq += 1
        event = _event(self._seq, self._now(), instance, kind) | {"state": state, "reason": reason} | details
        self._events.append(event)
        for subscription in self._subscriptions:
            subscription.put(event)
        return event

    def recent(self, n: int) -> list[Event]:
        """Return the last `n` events, the oldest first."""
        return list(self._events)[-n:] if n > 0 else []

    def subscribe(self, queue: int = QUEUE) -> Subscription:
        """Return an asynchronous iterator over the events from now on; use it in a `with` statement or close it."""
        subscription = Subscription(queue, self._now, self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription


class Subscription:
    """The events for one reader, in order. Ends (StopAsyncIteration) when it is closed."""

    def __init__(self, queue: int, now: Callable[[], datetime], leave: Callable[[Subscription], None]) -> None:
        self._events: deque[Event] = deque(maxlen=queue)
        self._now = now
        self._leave = leave
        self._wake = asyncio.Event()
        self._lost = 0
        self._closed = False

    def put(self, event: Event) -> None:
        """Queue `event`; a full queue loses its oldest."""
        self._lost += len(self._events) == self._events.maxlen
        self._events.append(event)
        self._wake.set()

    def close(self) -> None:
        """Take no more events. What was queued can still be read."""
        self._closed = True
        self._leave(self)
        self._wake.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._loss() if self._lost else self._events.popleft()

    def _loss(self) -> Event:
        lost, self._lost = self._lost, 0
        reason = f"{lost} earlier events are missing here: they came faster than they were read"
        return _event(None, self._now(), None, "lost") | {"state": None, "reason": reason, "lost": lost}


def _event(seq: int | None, time: datetime, instance: str | None, kind: str) -> Event:
    return {"seq": seq, "time": rfc3339(time), "instance": instance, "kind": kind}
