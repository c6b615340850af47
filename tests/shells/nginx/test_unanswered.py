"""A lab that ends while it owes an answer: what only asked is asked again, nothing else is ever repeated."""

import asyncio
import contextlib
import os

import pytest

from jlabd.spec import UnixListen
from tests.shells.nginx.servers import instance, running

LAB = "lab.example.com"
PATH = "/alice/files/a%20b%2Fc//x.txt?token=a%2Bb"
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade"}


class DyingLab:
    """A server that takes requests and ends without a word for the first few; then it tells what it was asked."""

    def __init__(self):
        self.left = 1
        self.heads = []

    async def serve(self, reader, writer):
        """Read one request."""
        with contextlib.closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            if len(self.heads) > self.left:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + b"ok" * (head[:5] != b"HEAD "))
                await writer.drain()


@pytest.fixture(params=["shared", "own"])
async def lab(request, server, publisher, folder):
    """A lab that dies at the first request, behind nginx: on the shared host, or on one of its own."""
    made = DyingLab()
    path = str(folder / "alice.sock")
    serving = await asyncio.start_unix_server(made.serve, path)
    os.chmod(path, 0o666)
    made.host = LAB if request.param == "shared" else "alice.example.com"
    own = {} if request.param == "shared" else {"server_name": made.host, "base_url": "/alice/"}
    await running(server, publisher, instance("alice", UnixListen(path), **own))
    made.url = f"http://127.0.0.1:{server.port}/alice/"
    made.port = server.port
    yield made
    serving.close()


async def raw(lab, method, **headers):
    """Send a request as it is; return the answer as text."""
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.port)
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    writer.write(f"{method} {PATH} HTTP/1.1\r\nHost: {lab.host}\r\n{lines}\r\n".encode())
    try:
        return (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode()
    finally:
        writer.close()


@pytest.mark.parametrize(("method", "headers"), [("GET", {}), ("HEAD", {}), ("GET", UPGRADE)])
async def test_what_only_asks_is_asked_again(lab, method, headers):
    """GET, HEAD and the request for a websocket come a second time, exactly as the first, and are answered."""
    assert (await raw(lab, method, **headers)).startswith("HTTP/1.1 200 ")
    assert len(lab.heads) == 2
    assert lab.heads[0] == lab.heads[1]
    assert lab.heads[0].startswith(f"{method} {PATH} HTTP".encode())


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_nothing_else_is_repeated(lab, http, method):
    """What may have been done already is not asked again: 502 says that it is not known."""
    async with http.request(method, lab.url, data=b"x" * 100_000, headers={"Host": lab.host}) as answer:
        assert (answer.status, answer.headers["Cache-Control"]) == (502, "no-store")
        assert "not known" in await answer.text()
        assert "Retry-After" not in answer.headers
    assert len(lab.heads) == 1


async def test_only_once_more(lab, http):
    """A request that ends the lab each time ends it twice, not for ever."""
    lab.left = 100
    async with http.get(lab.url, headers={"Host": lab.host}) as answer:
        assert answer.status == 502
    assert len(lab.heads) == 2
