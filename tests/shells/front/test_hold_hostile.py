"""Many, slow and greedy clients of a server that starts: nobody else suffers, and who asks properly is answered."""

import asyncio
import hashlib
import json
import time

from rig.waiting import eventually

from jlabd.front import standin
from tests.shells.front.slow_lab import FAILED, STARTING, asked, held
from tests.shells.front.visitors import exchange, parsed, request


async def test_no_more_are_held_than_fit_and_the_others_wait(stand_ins, sock, lab, http, monkeypatch):
    """Beyond the limit requests wait in the backlog, and the server answers all of them."""
    monkeypatch.setattr(standin, "CONNECTIONS_EACH", 8)
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    tasks = [asyncio.create_task(asked(http)) for _ in range(40)]
    await eventually(lambda: held(stand_ins) == 8)
    await asyncio.sleep(0.3)
    assert held(stand_ins) == 8
    await lab.serve()
    stand_ins.stop("alice")
    assert {status for status, _ in await asyncio.wait_for(asyncio.gather(*tasks), 20)} == {200}


async def test_those_who_are_held_leave_room_for_who_is_answered(stand_ins, sock, other, monkeypatch):
    """However many wait for servers that start, who visits an instance at rest gets the answer."""
    monkeypatch.setattr(standin, "HELD_ALL", 4)
    monkeypatch.setattr(standin, "CONNECTIONS_ALL", 6)
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    stand_ins.start("bob", other, lambda: FAILED)
    tasks = [asyncio.create_task(exchange(sock)) for _ in range(20)]
    await eventually(lambda: held(stand_ins) == 4)
    reader, writer = await asyncio.open_connection(*other.getsockname())
    writer.write(request())
    assert parsed(await asyncio.wait_for(reader.read(), 5))[0] == 503
    writer.close()
    for task in tasks:
        task.cancel()


async def test_a_slow_head_is_cut_off_and_a_held_request_is_not(stand_ins, sock, lab, monkeypatch):
    """Who takes too long to ask is cut off; who waits for the server is not, however slow its body is."""
    monkeypatch.setattr(standin, "REQUEST_TIMEOUT_S", 0.3)
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    slow_reader, slow_writer = await asyncio.open_unix_connection(sock.getsockname())
    slow_writer.write(b"GET / HTTP/1.1\r\n")
    reader, writer = await asyncio.open_unix_connection(sock.getsockname())
    writer.write(b"POST /alice/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
    assert await asyncio.wait_for(slow_reader.read(), 5) == b""
    assert held(stand_ins) == 1
    await lab.serve()
    stand_ins.stop("alice")
    writer.write(b"def")
    _, _, body = parsed(await asyncio.wait_for(reader.read(), 10))
    assert json.loads(body)["sha256"] == hashlib.sha256(b"abcdef").hexdigest()
    slow_writer.close()
    writer.close()


async def test_a_flood_behind_a_held_request_costs_nothing(stand_ins, sock):
    """What is held is not read: the client's further bytes wait with the client, and the loop rests."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    reader, writer = await asyncio.open_unix_connection(sock.getsockname())
    writer.write(request("POST", body=b"x" * 50_000_000))
    await eventually(lambda: held(stand_ins) == 1)
    used = time.process_time()
    await asyncio.sleep(0.5)
    assert time.process_time() - used < 0.1
    assert writer.transport.get_write_buffer_size() > 45_000_000
    stand_ins.start("alice", sock, lambda: FAILED)
    assert parsed(await asyncio.wait_for(reader.read(), 20))[0] == 503
    writer.close()


async def test_a_thousand_who_wait_leave_the_daemon_responsive(stand_ins, sock, other, lab, http):
    """A visitor of another instance is answered at once, and the thousand are answered by the server."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    stand_ins.start("bob", other, lambda: FAILED)
    crowd = [asyncio.create_task(asked(http)) for _ in range(1000)]
    await eventually(lambda: held(stand_ins) == standin.CONNECTIONS_EACH)
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(*other.getsockname())
    writer.write(request())
    assert parsed(await asyncio.wait_for(reader.read(), 5))[0] == 503
    assert time.monotonic() - began < 1
    writer.close()
    await lab.serve()
    stand_ins.stop("alice")
    assert {status for status, _ in await asyncio.wait_for(asyncio.gather(*crowd), 60)} == {200}
