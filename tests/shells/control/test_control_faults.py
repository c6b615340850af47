"""The control socket, its clients that misbehave, and its name in the file system."""

import asyncio
import json
import os
import socket
import stat

import pytest

from jlabd.control import server as server_module
from jlabd.control.client import request
from jlabd.control.server import ControlServer
from tests.shells.control.asking import call, parsed, raw
from tests.shells.control.fakes import ask, served, until

# Clients that misbehave


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\xff\r\n\r\n",
        b"POST /start HTTP/1.1\r\nContent-Length: 5\r\n\r\n{{{{{",
        b"POST /start HTTP/1.1\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        b"POST /start HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET /status HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /start HTTP/1.1\r\nContent-Length: 40000\r\n\r\n" + b"[" * 40_000,
    ],
)
async def test_garbage(path, sent):
    """What is no request is refused, and the next caller is served."""
    assert parsed(await ask(path, sent))[0] == 400
    assert (await call(path, "GET", "/status"))[0] == 200


async def test_large_body_is_refused(path):
    """A request may be 64 KiB long."""
    body = {"names": ["x" * 70_000]}
    assert (await call(path, "POST", "/start", body))[0] == 413


async def test_one_request_a_connection(path):
    """The connection ends with the answer, also for who would like to go on."""
    answer = await ask(path, raw("GET", "/url/alice") + raw("GET", "/url/bob"))
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_silent_connections_are_closed(supervisor, monkeypatch):
    """Who connects and asks nothing, or half of something, is hung up on."""
    monkeypatch.setattr(server_module, "IDLE_S", 0.3)
    async with served(supervisor) as path:
        for start in (b"", b"GET /sta", b"GET /status HTTP/1.1\r\nX: y\r\n"):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(start)
            async with asyncio.timeout(10):
                await reader.read()
            writer.close()


async def test_connections_are_limited(supervisor, monkeypatch):
    """One account cannot use up the daemon's descriptors; when it lets go it is served again."""
    monkeypatch.setattr(server_module, "MOST_OF_ONE_ACCOUNT", 2)
    async with served(supervisor) as path:
        before = _descriptors()
        writers = [(await asyncio.open_unix_connection(path))[1] for _ in range(8)]
        await until(lambda: _descriptors() >= before + 16)  # both ends of all eight
        for _ in range(20):
            assert parsed(await ask(path, b""))[0] == 503
        await until(lambda: _descriptors() <= before + 16)
        for writer in writers:
            writer.close()
        await until(lambda: _descriptors() <= before)
        assert (await call(path, "GET", "/status"))[0] == 200


def _descriptors():
    return len(os.listdir("/proc/self/fd"))


async def test_reader_that_stalls_holds_nobody_up(supervisor, folder):
    """Somebody who follows a log and does not read it makes neither others nor the end of the daemon wait."""
    supervisor.log = b"x" * 5_000_000 + b"\n"
    path = f"{folder}/control.sock"
    server = ControlServer(path, supervisor, lambda: "none")
    await server.start()
    with socket.socket(socket.AF_UNIX) as stalled:
        stalled.connect(path)
        stalled.send(raw("GET", "/logs/alice?follow=1"))
        await until(lambda: supervisor.following)
        assert (await call(path, "GET", "/url/bob"))[0] == 200
        await asyncio.wait_for(server.close(), 5)
        assert supervisor.following == 0


async def test_close_ends_streams(supervisor):
    """The daemon's end does not wait for those who follow."""
    async with served(supervisor) as path:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(raw("GET", "/logs/alice?follow=1"))
        await until(lambda: supervisor.following == 1)
        start = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - start < 1
    assert supervisor.following == 0
    writer.close()


# The socket itself


async def test_socket_is_for_everybody_and_goes_away(supervisor):
    """The control socket is 0666, and removed at the end."""
    async with served(supervisor) as path:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
        kept = path
    assert not os.path.exists(kept)


async def test_second_daemon_is_refused_and_harms_nothing(supervisor):
    """While somebody listens on the name, another daemon does not get it."""
    async with served(supervisor) as path:
        second = ControlServer(path, supervisor, lambda: "none")
        with pytest.raises(OSError, match="another process listens"):
            await second.start()
        await second.close()
        assert (await call(path, "GET", "/status"))[0] == 200


async def test_stale_socket_is_replaced(supervisor, folder):
    """After a kill -9 the next daemon takes over the name that was left."""
    path = f"{folder}/control.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    server = ControlServer(path, supervisor, lambda: "none")
    await server.start()
    assert (await call(path, "GET", "/status"))[0] == 200
    await server.close()


async def test_name_that_is_somebody_elses_by_now_stays(supervisor, folder):
    """A daemon that ends removes its own socket only."""
    path = f"{folder}/control.sock"
    first, second = (ControlServer(path, supervisor, lambda: "none") for _ in range(2))
    await first.start()
    os.unlink(path)
    await second.start()
    await first.close()
    assert (await call(path, "GET", "/status"))[0] == 200
    await second.close()
    assert not os.path.exists(path)


async def test_path_longer_than_an_address(supervisor, folder):
    """A runtime folder with a long name works: for the daemon, and for its client."""
    long = folder / ("x" * 120)
    long.mkdir()
    server = ControlServer(str(long / "control.sock"), supervisor, lambda: "none")
    await server.start()
    body = await asyncio.to_thread(lambda: request(str(long / "control.sock"), "GET", "/status").read())
    assert json.loads(body) == supervisor.document()
    await server.close()
    assert os.listdir(long) == []


async def test_file_in_the_way_is_not_removed(supervisor, tmp_path):
    """Something that is not a socket is somebody's: it stays."""
    path = tmp_path / "control.sock"
    path.write_text("precious")
    server = ControlServer(str(path), supervisor, lambda: "none")
    with pytest.raises(FileExistsError):
        await server.start()
    await server.close()
    assert path.read_text() == "precious"


async def test_who_comes_while_it_pauses(supervisor, folder):
    """A connection that comes in the very moment of a pause waits, and is served afterwards."""
    server = ControlServer(str(folder / "control.sock"), supervisor, lambda: "none")
    await server.start()
    await asyncio.sleep(0.05)  # it is waiting for somebody
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(folder / "control.sock"))
    asyncio.get_running_loop().call_soon(server.pause)  # just before the loop looks who is there
    await asyncio.sleep(0.05)
    server.resume()
    client.sendall(raw("GET", "/status"))
    client.settimeout(10)
    assert b" 200 " in await asyncio.to_thread(client.recv, 1000)
    client.close()
    await server.close()
