"""`/events`: what changes, as it changes, as server-sent events (https://html.spec.whatwg.org/#server-sent-events).

| event     | data                                                                                                |
|-----------|-----------------------------------------------------------------------------------------------------|
| `status`  | {"now", "document", "history"}: everything, at the beginning and when instances come or go          |
| `changes` | {"now", "instances": {NAME: {FIELD: VALUE}}, "daemon": {FIELD: VALUE}}: what is different since then |
| `journal` | one event of the journal, as `jlabctl events --json` prints it; the only ones with an id             |
| `beat`    | {"now"}: sent when there was nothing else for a while                                                |

Fields are those of the status document; "history" maps names to lists of [seconds ago, CPU percent, memory bytes].
A client that connects again with Last-Event-ID misses nothing of the journal that is still known.

All clients get the same bytes, made once. One that does not take them in time is hung up on: it comes back by itself
and begins anew. Nothing is made while nobody listens.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aiohttp import hdrs, web

from jlabd.status.history import Histories
from jlabd.status.journal import Journal, Subscription
from jlabd.status.view import rfc3339

MOST_CLIENTS = 32
"""Half of the endpoint's connections: a monitor that asks for /healthz always gets in."""
QUEUE = 64
"""Messages that wait for one client."""
LOOK_S = 2.0
"""Between two looks at what changed without being an event: CPU, memory, kernels."""
TOGETHER_S = 0.05
"""Events that come so close are looked at together."""
BEAT_S = 15.0
SLOWEST_WRITE_S = 30.0
RETRY_MS = 2000
"""When a client that lost its connection tries again."""
JOURNAL = 30
"""Events of the journal that a new client gets."""

_DAEMON = ("version", "pid", "started_at", "config", "nginx")

Document = dict[str, Any]


class Broadcast:
    """Tells all who listen. `document` returns the status document."""

    def __init__(self, document: Callable[[], Document], journal: Journal, histories: Histories) -> None:
        self._document = document
        self._journal = journal
        self._histories = histories
        self._epoch = uuid.uuid4().hex[:8]
        """In the ids of events: those of another daemon count from 1 too."""
        self._clients: dict[asyncio.Queue[bytes], asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._events: Subscription | None = None
        self._last: Document = {}
        self._whole = b""
        """The `status` message for new clients, as long as it is true: making one takes a while with many labs."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer with the stream; returns when the client has gone, is too slow, or `end` was called."""
        if request.method == hdrs.METH_HEAD:
            return web.Response(content_type="text/event-stream")
        if len(self._clients) >= MOST_CLIENTS:
            return web.Response(status=503, text="too many are listening already\n", headers={"Retry-After": "30"})
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"})
        response.force_close()
        await response.prepare(request)
        self._watch()
        queue = self._join(request.headers.get("Last-Event-ID", ""))
        sending = asyncio.create_task(_send(queue, response))
        self._clients[queue] = sending
        try:
            with suppress(asyncio.CancelledError, ConnectionError, TimeoutError):
                await sending
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError
        finally:
            sending.cancel()
            self._leave(queue)
        transport = request.transport
        if isinstance(transport, asyncio.WriteTransport) and transport.get_write_buffer_size():
            transport.abort()  # not to wait for what the client does not take
        return response

    def end(self) -> None:
        """Hang up on everybody."""
        for sending in self._clients.values():
            sending.cancel()

    def snapshot(self) -> Document:
        """Return what a `status` event tells."""
        document = self._document()
        now = time.monotonic()
        history = {entry["name"]: self._histories.recent(entry["name"], now) for entry in document["instances"]}
        return {"now": _now(), "document": document, "history": history}

    def recent_events(self) -> list[Document]:
        """Return the last events of the journal, the oldest first, each with its `id`."""
        return [event | {"id": self._id(event)} for event in self._journal.recent(JOURNAL)]

    def _join(self, last_id: str) -> asyncio.Queue[bytes]:
        """Return the queue of a new client, with what it has to know first."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE)
        events = b"".join(self._told(event) for event in self._missed(last_id))
        self._whole = self._whole or message("status", self.snapshot())
        queue.put_nowait(b"retry: %d\n" % RETRY_MS + self._whole + events)
        return queue

    def _missed(self, last_id: str) -> list[Document]:
        epoch, _, seq = last_id.partition("-")
        if epoch == self._epoch and seq.isascii() and seq.isdigit() and len(seq) < 20:
            return [event for event in self._journal.recent(1_000_000) if event["seq"] > int(seq)]
        return self._journal.recent(JOURNAL)

    def _told(self, event: Document) -> bytes:
        return message("journal", event, self._id(event))

    def _id(self, event: Document) -> str:
        return "" if event["seq"] is None else f"{self._epoch}-{event['seq']}"

    def _leave(self, queue: asyncio.Queue[bytes]) -> None:
        del self._clients[queue]
        if not self._clients and self._watching is not None and self._events is not None:
            self._watching.cancel()
            self._watching = None
            self._whole = b""
            self._events.close()

    def _watch(self) -> None:
        if self._watching is None:
            self._last = self._document()
            self._events = self._journal.subscribe()
            self._watching = asyncio.create_task(self._tell_changes(self._events))

    async def _tell_changes(self, events: Subscription) -> None:
        """Tell everybody what changes, until cancelled."""
        while True:
            happened: list[Document] = []
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    happened.append(await anext(events))
                async with asyncio.timeout(TOGETHER_S):
                    while True:
                        happened.append(await anext(events))
            self._tell(b"".join([self._news(), *map(self._told, happened)]))

    def _news(self) -> bytes:
        """Return the message that says what became different since the last time; empty if nothing did."""
        before, self._last, self._whole = self._last, self._document(), b""
        if [entry["name"] for entry in before["instances"]] != [entry["name"] for entry in self._last["instances"]]:
            return message("status", self.snapshot())
        pairs = zip(before["instances"], self._last["instances"], strict=True)
        instances = {new["name"]: found for old, new in pairs if (found := _difference(old, new))}
        daemon = _difference({key: before[key] for key in _DAEMON}, {key: self._last[key] for key in _DAEMON})
        if not instances and not daemon:
            return b""
        return message("changes", {"now": _now(), "instances": instances, "daemon": daemon})

    def _tell(self, told: bytes) -> None:
        if not told:
            return
        for queue, sending in self._clients.items():
            try:
                queue.put_nowait(told)
            except asyncio.QueueFull:
                sending.cancel()


async def _send(queue: asyncio.Queue[bytes], response: web.StreamResponse) -> None:
    """Pass on what is queued, and a beat when there is nothing. Raises OSError, TimeoutError when it is not taken."""
    while True:
        try:
            async with asyncio.timeout(BEAT_S):
                told = await queue.get()
        except TimeoutError:
            told = message("beat", {"now": _now()})
        async with asyncio.timeout(SLOWEST_WRITE_S):
            await response.write(told)


def message(event: str, data: Any, number: str = "") -> bytes:
    """Return one server-sent event."""
    head = f"id: {number}\n" if number else ""
    return f"{head}event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _difference(old: Document, new: Document) -> Document:
    return {key: value for key, value in new.items() if old.get(key) != value}


def _now() -> str:
    return rfc3339(datetime.now(UTC))
