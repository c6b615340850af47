"""How a server that does not answer properly is found out; the proper answers are in test_lab.py and test_relay.py."""

import asyncio
import contextlib
import json
import os
import resource
import time

import pytest

from jlabd.jupyter.activity import Activity, ActivityError, activity
from jlabd.jupyter.http import CannotAskError
from jlabd.jupyter.probe import ProbeError, Prober
from jlabd.spec import TcpListen, UnixListen
from tests.shells.jupyter.labs import short_folder


@pytest.fixture
def place():
    with short_folder() as folder:
        yield folder


def http(body, status="200 OK"):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@contextlib.asynccontextmanager
async def answering(place, *pieces):
    """A server that answers every request with these pieces: bytes to send, or seconds to wait."""

    async def serve(reader, writer):
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                if isinstance(piece, bytes):
                    writer.write(piece)
                    await writer.drain()
                else:
                    await asyncio.sleep(piece)
        writer.close()

    path = f"{place}/s"
    server = await asyncio.start_unix_server(serve, path)
    try:
        yield UnixListen(path)
    finally:
        server.close()


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ((b"",), r"the connection ended without an answer"),
        ((b"garbage\r\n\r\n",), r"what it answered is not HTTP"),
        ((5,), r"no answer within 0\.2 s"),
        ((b"HTTP/1.1 200 OK\r\n\r\n", *[b"x", 0.05] * 100), r"no answer within 0\.2 s"),
        ((http("[1]"),), "not as JupyterLab does"),
        ((http("<html>"),), "not as JupyterLab does"),
        ((http("[" * 60000),), "not as JupyterLab does"),
        ((http("{}", "503 No"),), "answered 503 to GET /a/api"),
        ((http("{}", "302 Found"),), "answered 302 to GET /a/api"),
    ],
)
async def test_wrong_answers(place, pieces, said):
    """A lab that is silent, or does not answer as JupyterLab does, fails the probe within its time."""
    async with answering(place, *pieces) as listen:
        began = time.monotonic()
        with pytest.raises(ProbeError, match=said):
            await Prober().probe(listen, "/a/", is_lab=True, timeout_s=0.2)
        assert time.monotonic() - began < 2


async def test_endless_answer_is_cut(place):
    """A server that never stops sending costs neither memory nor time."""
    endless = (b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 65536] * 10000)
    async with answering(place, *endless) as listen:
        with pytest.raises(ProbeError, match="not as JupyterLab does"):
            await Prober().probe(listen, "/a/", is_lab=True, timeout_s=20)


async def test_nobody_there(place):
    """An address where nobody listens is told from one that is silent."""
    with pytest.raises(ProbeError, match=r"cannot connect to unix:.*/none: No such file or directory"):
        await Prober().probe(UnixListen(f"{place}/none"), "/", is_lab=True, timeout_s=1)


@contextlib.contextmanager
def room_for_descriptors(count):
    """Leave room for so many more descriptors of this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.open(os.devnull, os.O_RDONLY) for _ in range(count + 1)]
    for descriptor in free:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_who_cannot_ask_blames_nobody(place):
    """Where the daemon itself lacks what it takes to ask, that is said, and is no failed probe."""
    said = "jlabd cannot open a connection: Too many open files"
    for room, path in ((0, f"{place}/s"), (1, f"{place}/{'d' * 100}/s")):  # a long path needs another descriptor
        with room_for_descriptors(room), pytest.raises(CannotAskError, match=said):
            await Prober().probe(UnixListen(path), "/", is_lab=True, timeout_s=1)
    with room_for_descriptors(0), pytest.raises(ActivityError, match=said):
        await activity(UnixListen(f"{place}/s"), "/", "t", 1)


async def test_without_a_token_nobody_is_asked(place):
    """A program that is no JupyterLab has no token, and is not asked what goes on in it."""
    with pytest.raises(ActivityError, match="there is no token"):
        await activity(UnixListen(f"{place}/s"), "/", "", 1)


async def test_long_path_and_wildcard(place):
    """A socket whose path is too long for an address is probed all the same; so is a port open to the world."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(json.dumps({"version": "1"})))
        writer.close()

    folder = place / ("d" * 100)
    folder.mkdir()
    server = await asyncio.start_unix_server(serve, f"{place}/short")
    (place / "short").rename(folder / "s")
    await Prober().probe(UnixListen(f"{folder}/s"), "/", is_lab=True, timeout_s=5)
    server.close()
    for host in ("0.0.0.0", "127.0.0.1"):
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await Prober().probe(TcpListen(host, port), "/", is_lab=True, timeout_s=5)
        server.close()


async def test_activity_of_something_else(place):
    """Only a lab's own answer is taken for activity."""
    good = {"kernels": 2, "connections": 1, "last_activity": "2026-01-02T03:04:05.6Z", "started": "x"}
    async with answering(place, http(json.dumps(good))) as listen:
        found = await activity(listen, "/", "t", 5)
        assert (found.kernels, found.connections, found.last_activity.year) == (2, 1, 2026)
    malicious = ("[" * 60000, '{"kernels": 1e999, "connections": 1}', '{"kernels": 1, "connections": -1}')
    timeless = '{"kernels": 1, "connections": 1, "last_activity": "2026-01-02"}'
    before_all_time = '{"kernels": 1, "connections": 1, "last_activity": "0001-01-01T00:00:00+14:00"}'
    endless = f'{{"kernels": 1{"0" * 4000}, "connections": 1}}'
    hostile = (*malicious, timeless, before_all_time, endless)
    for body in ("[]", "{}", "nonsense", '{"kernels": 1, "connections": "x"}', *hostile):
        (place / "s").unlink(missing_ok=True)
        async with answering(place, http(body)) as listen:
            with pytest.raises(ActivityError, match="not as JupyterLab does"):
                await activity(listen, "/", "t", 5)
    (place / "s").unlink(missing_ok=True)
    async with answering(place, http("no", "403 Forbidden")) as listen:
        with pytest.raises(ActivityError, match="answered 403"):
            await activity(listen, "/", "t", 5)
    assert Activity(1, 2, None).last_activity is None
