"""The HTTP endpoint, asked over real sockets."""

import asyncio
import json
import shutil
import socket
import stat
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from jlabd.spec import TcpListen, UnixListen
from jlabd.status import endpoint as endpoint_module
from jlabd.status.endpoint import MOST_CONNECTIONS, Endpoint
from jlabd.status.history import Histories
from jlabd.status.journal import Journal
from jlabd.status.stream import Broadcast

DOCUMENT = {"version": "1", "instances": [{"name": "alice", "state": "ready"}, {"name": "a@b.c", "state": "idle"}]}


def _broadcast():
    return Broadcast(lambda: DOCUMENT, Journal(), Histories())


@asynccontextmanager
async def _serving(health=lambda: (True, ""), listen=TcpListen("127.0.0.1", 0)):  # noqa: B008  (frozen)
    endpoint = Endpoint(listen, lambda: DOCUMENT, health, lambda _: (b"x 1\n", "text/plain"), _broadcast())
    try:
        yield await endpoint.start()
    finally:
        await endpoint.close()


async def _send(address, raw):
    connection = (
        asyncio.open_unix_connection(address.path)
        if isinstance(address, UnixListen)
        else asyncio.open_connection(address.host, address.port)
    )
    reader, writer = await connection
    writer.write(raw)
    try:
        async with asyncio.timeout(15):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


async def _get(address, path, method="GET", host="localhost"):
    return await _send(address, f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())


async def test_status_and_one_instance():
    """/status is the status document, /status/NAME the entry of one instance."""
    async with _serving() as address:
        status, headers, body = await _get(address, "/status")
        assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
        assert json.loads(body) == DOCUMENT
        assert json.loads((await _get(address, "/status/alice"))[2]) == DOCUMENT["instances"][0]
        assert json.loads((await _get(address, "/status/a@b.c"))[2]) == DOCUMENT["instances"][1]


async def test_the_page_for_a_crowd(monkeypatch):
    """Who comes within the same second gets the page that was made for somebody else."""
    made = []
    monkeypatch.setattr(endpoint_module, "render", lambda *_: made.append(1) or f"page {len(made)} \udcff")
    async with _serving() as address:
        answers = [await _get(address, "/") for _ in range(3)]
    assert [(status, body) for status, _, body in answers] == [(200, b"page 1 ?")] * 3


async def test_metrics():
    """/metrics is what the daemon has for Prometheus, as it is."""
    async with _serving() as address:
        status, headers, body = await _get(address, "/metrics")
        assert (status, headers["content-type"], body) == (200, "text/plain", b"x 1\n")


async def test_health():
    """/healthz is 200 while the daemon is well, and 503 with the reason while it is not."""
    async with _serving() as address:
        assert (await _get(address, "/healthz"))[::2] == (200, b"ok\n")
    async with _serving(lambda: (False, "jlabd is stopping")) as address:
        assert (await _get(address, "/healthz"))[::2] == (503, b"jlabd is stopping\n")


async def test_answers_are_not_for_caches_or_other_sites():
    """Each answer, also a refusal, forbids storing and sniffing, and none allows another origin to read it."""
    async with _serving() as address:
        for path, host in (("/status", "localhost"), ("/nowhere", "localhost"), ("/status", "evil.example")):
            _, headers, _ = await _get(address, path, host=host)
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert not [name for name in headers if name.startswith("access-control")]
            assert headers["server"] == "jlabd"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/status", "/nowhere"])
async def test_only_reads(method, path):
    """Nothing but GET and HEAD is answered, whatever the path."""
    async with _serving() as address:
        status, headers, _ = await _get(address, path, method)
        assert (status, headers["allow"]) == (405, "get, head")


async def test_head_has_no_body():
    """HEAD gets the headers of GET and nothing else."""
    async with _serving() as address:
        status, headers, body = await _get(address, "/status", "HEAD")
        assert (status, body) == (200, b"")
        assert int(headers["content-length"]) == len(json.dumps(DOCUMENT)) + 1


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9180", "127.0.0.1", "127.0.0.1:1", "127.8.8.8", "[::1]:9180"])
async def test_local_hosts_are_served(host):
    """Every name of the loopback is good, at any port: the port may be forwarded."""
    async with _serving() as address:
        assert (await _get(address, "/status", host=host))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9180",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "0.0.0.0",
        "192.168.0.1",
        "[::]",
    ],
)
async def test_other_hosts_are_refused(host):
    """A page that a browser loaded from elsewhere cannot read the status by pointing its name here (DNS rebinding)."""
    async with _serving() as address:
        status, _, body = await _get(address, "/status", host=host)
        assert status == 421
        assert b"alice" not in body


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("cross-site", "cors", 403),
        ("same-site", "no-cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ],
)
@pytest.mark.parametrize("path", ["/status", "/events"])
async def test_not_for_the_pages_of_others(path, site, mode, status):
    """What the page of some other site asks for in a person's browser is refused; a link from there may be followed."""
    async with _serving() as address:
        head = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        asked = f"{head}Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\n\r\n"
        assert (await _send(address, asked.encode()))[0] == status


async def test_missing_and_double_host_are_refused():
    """A request must say exactly one Host."""
    async with _serving() as address:
        assert (await _send(address, b"GET /status HTTP/1.0\r\n\r\n"))[0] == 400
        double = b"GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        assert (await _send(address, double))[0] == 400


async def test_absolute_target_does_not_get_around_the_host_check():
    """What counts is not taken from the request's target."""
    async with _serving() as address:
        assert (await _get(address, "http://localhost/status", host="evil.example"))[0] == 421


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/events/",
        "/Status",
        "/status/",
        "/status/bob",
        "/status/alice/x",
        "/status/../etc/passwd",
        "/status/..%2f..%2fetc",
        "/status/%2e%2e",
        "/status/alice%00",
        "//status",
        "/healthz/x",
        "/status/" + "x" * 4000,
        "/status/%ff%fe",
    ],
)
async def test_anything_else_is_not_found(path):
    """What is not in the route table is answered with problem+json, and nothing is ever looked up as a path."""
    async with _serving() as address:
        status, headers, body = await _get(address, path)
        assert (status, headers["content-type"]) == (404, "application/problem+json; charset=utf-8")
        assert json.loads(body)["status"] == 404


async def test_unix_socket():
    """`unix:PATH` listens there, for everybody as TCP does, and removes the socket at the end."""
    folder = Path(tempfile.mkdtemp(prefix="jl", dir="/tmp"))
    path = folder / "status.sock"
    try:
        async with _serving(listen=UnixListen(str(path))) as address:
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
            assert (await _get(address, "/status"))[0] == 200
            assert (await _get(address, "/status", host="evil.example"))[0] == 421
        assert not path.exists()
    finally:
        shutil.rmtree(folder)


async def test_port_in_use_is_an_error():
    """An address that somebody else has is reported, not shared."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        endpoint = Endpoint(
            TcpListen("127.0.0.1", other.getsockname()[1]),
            lambda: DOCUMENT,
            lambda: (True, ""),
            lambda _: (b"", ""),
            _broadcast(),
        )
        with pytest.raises(OSError, match="in use"):
            await endpoint.start()
        await endpoint.close()


async def test_many_connections_are_turned_away():
    """Somebody who opens connection after connection cannot use up the daemon's descriptors."""
    async with _serving() as address:
        idle = [await asyncio.open_connection(address.host, address.port) for _ in range(MOST_CONNECTIONS)]
        assert (await _get(address, "/status"))[0] == 503
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(10):
            while (await _get(address, "/status"))[0] == 503:  # noqa: ASYNC110  (no event tells of it)
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\x16\x03\x01\r\n\r\n",
        b"GET\r\n\r\n",
        b"FROB /status HTTP/1.1\r\n\r\n",
        b"GET /status HTTP/9.9\r\n\r\n",
    ],
)
async def test_garbage_does_no_harm(garbage):
    """What is no HTTP is refused, and the next request is served."""
    async with _serving() as address:
        assert (await _send(address, garbage))[0] == 400
        assert (await _get(address, "/healthz"))[0] == 200
