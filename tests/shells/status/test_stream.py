"""Server-sent events, asked over real sockets."""

import asyncio
import contextlib
import json
import socket
import time

import pytest
from rig.stage import entry
from rig.waiting import eventually

from jlabd.spec import TcpListen
from jlabd.status import stream
from jlabd.status.endpoint import Endpoint
from jlabd.status.history import SPACING_S, WINDOW_S, Histories
from jlabd.status.journal import Journal
from jlabd.status.stream import MOST_CLIENTS, QUEUE, Broadcast


class Daemon:
    """What the stream tells of."""

    def __init__(self):
        self.instances = [entry("alice"), entry("bob")]
        self.nginx = {"ok": True, "generation": 1, "error": None}
        self.asked = 0
        self.journal = Journal()
        self.histories = Histories()

    def document(self):
        self.asked += 1
        head = {"version": "1", "pid": 1, "started_at": "x", "config": {"path": "/x", "error": None}}
        return head | {"nginx": self.nginx, "instances": [dict(each) for each in self.instances]}


@pytest.fixture
def daemon():
    return Daemon()


@pytest.fixture
async def endpoint(daemon):
    broadcast = Broadcast(daemon.document, daemon.journal, daemon.histories)
    made = Endpoint(
        TcpListen("127.0.0.1", 0), daemon.document, lambda: (True, ""), lambda _: (b"", "text/plain"), broadcast
    )
    made.address = await made.start()
    yield made
    await made.close()


class Client:
    """An EventSource."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def event(self):
        """Return the next event as a dictionary; `data` is decoded."""
        found = {}
        async with asyncio.timeout(10):
            while True:
                line = await self.reader.readline()
                assert line, "hung up"
                if line == b"\n" and found:
                    return found
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if value:
                    found[field] = json.loads(value) if field == "data" else value


@contextlib.asynccontextmanager
async def listening(endpoint, last_id=None, method="GET", buffer=None):
    """Give a client that has the answer's head behind it."""
    connection = socket.socket()
    if buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (endpoint.address.host, endpoint.address.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=buffer or 2**20)
    more = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
    # As of HTTP/1.0, so that the body comes as it is, without chunks.
    writer.write(f"{method} /events HTTP/1.0\r\nHost: localhost\r\n{more}\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    try:
        client = Client(reader, writer)
        client.head = head
        yield client
    finally:
        writer.transport.abort()


async def test_everything_then_what_changes(endpoint, daemon):
    """First the whole document with the past, then only the fields that became different, at once after an event."""
    daemon.histories.note("alice", time.monotonic() - 30, 12.5, 1000)
    async with listening(endpoint) as client:
        assert "Content-Type: text/event-stream" in client.head
        assert "Cache-Control: no-store" in client.head
        first = await client.event()
        told = first["data"]
        assert (first["event"], first["retry"]) == ("status", "2000")
        assert [each["name"] for each in told["document"]["instances"]] == ["alice", "bob"]
        [(ago, cpu, memory)] = told["history"]["alice"]
        assert (round(ago), cpu, memory) == (30, 12.5, 1000)
        daemon.instances[1] |= {"state": "failed", "reason": "no"}
        event = daemon.journal.record("bob", "state", "failed", "no")
        changes = await client.event()
        assert (changes["event"], changes["data"]["daemon"]) == ("changes", {})
        assert changes["data"]["instances"] == {"bob": {"state": "failed", "reason": "no"}}
        journal = await client.event()
        assert (journal["event"], journal["data"]) == ("journal", event)


async def skip_to(client, kind):
    """Return the next event of a kind."""
    while (event := await client.event()).get("event") != kind:
        pass
    return event


async def test_what_changes_without_an_event(endpoint, daemon, monkeypatch):
    """CPU and memory are looked at again and again; the daemon's own affairs are told too."""
    monkeypatch.setattr(stream, "LOOK_S", 0.05)
    async with listening(endpoint) as client:
        await skip_to(client, "status")
        daemon.instances[0]["cpu_percent"] = 99.0
        daemon.nginx = {"ok": False, "generation": 1, "error": "no"}
        changes = (await skip_to(client, "changes"))["data"]
        assert (changes["instances"], changes["daemon"]) == ({"alice": {"cpu_percent": 99.0}}, {"nginx": daemon.nginx})


async def test_instances_that_come_and_go(endpoint, daemon):
    """Then everything is told anew."""
    async with listening(endpoint) as client:
        await skip_to(client, "status")
        daemon.instances = [entry("carol"), *daemon.instances[1:]]
        daemon.journal.record(None, "reload", None, "reloaded")
        told = (await skip_to(client, "status"))["data"]
        assert [each["name"] for each in told["document"]["instances"]] == ["carol", "bob"]


async def test_who_comes_back_misses_nothing(endpoint, daemon):
    """Events of meanwhile are told, those that were seen are not; ids of another daemon mean nothing."""
    for number in range(40):
        daemon.journal.record("alice", "state", "ready", str(number))
    async with listening(endpoint) as client:
        first = await skip_to(client, "journal")
        assert first["data"]["reason"] == "10"
        epoch = first["id"].partition("-")[0]
    async with listening(endpoint, f"{epoch}-38") as client:
        assert [(await skip_to(client, "journal"))["data"]["seq"] for _ in range(2)] == [39, 40]
        daemon.journal.record("alice", "state", "ready", "new")
        assert (await skip_to(client, "journal"))["data"]["seq"] == 41
    for foreign in ("ffffffff-38", "38", f"{epoch}-x", f"{epoch}-{'9' * 30}"):
        async with listening(endpoint, foreign) as client:
            assert (await skip_to(client, "journal"))["data"]["seq"] == 12


async def test_silence_is_no_death(endpoint, monkeypatch):
    """When there is nothing to tell, that is told."""
    monkeypatch.setattr(stream, "BEAT_S", 0.05)
    async with listening(endpoint) as client:
        assert (await skip_to(client, "beat"))["data"].keys() == {"now"}


async def test_a_crowd_is_told_what_was_made_once(endpoint, daemon, monkeypatch):
    """Who comes soon after another gets the same bytes; who comes after a change, the new state."""
    monkeypatch.setattr(stream, "LOOK_S", 60.0)
    made = []
    snapshot = endpoint._broadcast.snapshot
    endpoint._broadcast.snapshot = lambda: made.append(1) or snapshot()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            client = await stack.enter_async_context(listening(endpoint))
            await skip_to(client, "status")
        assert len(made) == 1
        daemon.instances[0]["cpu_percent"] = 50.0  # not told yet, so who comes now is told later
        late = await stack.enter_async_context(listening(endpoint))
        assert (await skip_to(late, "status"))["data"]["document"]["instances"][0]["cpu_percent"] == 2.0
        daemon.journal.record("alice", "x", None, "x")
        assert (await skip_to(late, "changes"))["data"]["instances"] == {"alice": {"cpu_percent": 50.0}}
        last = await stack.enter_async_context(listening(endpoint))
        assert (await skip_to(last, "status"))["data"]["document"]["instances"][0]["cpu_percent"] == 50.0


async def test_nobody_listens(endpoint, daemon, monkeypatch):
    """Nothing is made for nobody, and nothing is left of who was there."""
    monkeypatch.setattr(stream, "LOOK_S", 0.01)
    async with listening(endpoint) as one, listening(endpoint) as two:
        await skip_to(one, "status")
        await skip_to(two, "status")
        assert len(daemon.journal._subscriptions) == 1
    await eventually(lambda: not daemon.journal._subscriptions and not endpoint.busy)
    asked = daemon.asked
    await asyncio.sleep(0.1)
    assert daemon.asked == asked


async def test_one_that_does_not_read_is_hung_up_on(endpoint, daemon, monkeypatch):
    """It holds up nobody, is not waited for, and costs a bounded amount of memory."""
    monkeypatch.setattr(stream, "TOGETHER_S", 0.0)
    async with listening(endpoint, buffer=4096) as slow, listening(endpoint) as quick:
        await skip_to(quick, "status")
        for number in range(5 * QUEUE):
            daemon.instances[0]["reason"] = f"{number} " + "x" * 100_000
            daemon.journal.record("alice", "state", "ready", "x")
            assert (await skip_to(quick, "changes"))["data"]["instances"]["alice"]["reason"].startswith(f"{number} ")
            if len(endpoint._broadcast._clients) == 1:
                break
        # What the queue, the transport and the system hold is all that it got.
        assert len(endpoint._broadcast._clients) == 1
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await slow.reader.readexactly(10**9)


async def test_a_pause_ends_them(endpoint, daemon):
    """Before it is replaced the daemon hangs up, properly, and at once; afterwards they come back."""
    async with listening(endpoint) as client:
        await skip_to(client, "status")
        endpoint.pause()
        async with asyncio.timeout(5):
            assert await client.reader.read() == b""
        await eventually(lambda: not endpoint.busy, 1)
    await endpoint.resume()
    async with listening(endpoint) as client:
        await skip_to(client, "status")


async def test_not_too_many(endpoint):
    """So many may listen that monitoring still gets in."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MOST_CLIENTS):
            client = await stack.enter_async_context(listening(endpoint))
            await skip_to(client, "status")
        async with listening(endpoint) as client:
            assert client.head.startswith("HTTP/1.0 503")
            assert "Retry-After: 30" in client.head


async def test_head(endpoint):
    """HEAD says what it would be, and ends."""
    async with listening(endpoint, method="HEAD") as client:
        assert "Content-Type: text/event-stream" in client.head
        assert await client.reader.read() == b""


def test_histories_are_short():
    """Samples are far enough from each other, none is older than the window, and they end with their instance."""
    histories = Histories()
    for second in range(4000):
        histories.note("a", float(second), 1.0, second)
    found = histories.recent("a", 4000.0)
    assert len(found) == WINDOW_S / SPACING_S
    assert found[-1] == (10.0, 1.0, 3990)
    assert max(ago for ago, _, _ in found) <= WINDOW_S
    histories.note("b", 0.0, None, 1)
    histories.note("b", 0.0, 1.0, None)
    assert histories.recent("b", 0.0) == []
    histories.keep(["b"])
    assert histories.recent("a", 4000.0) == []
