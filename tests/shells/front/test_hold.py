"""While a server starts: people get the page, every other request waits and is answered by the server itself."""

import asyncio
import hashlib
import json
import os
import socket

import aiohttp
import pytest
from rig.waiting import eventually

from jlabd.between_us import NOT_ACCEPTING
from jlabd.front import door
from jlabd.front.listeners import is_listening
from jlabd.jupyter.probe import ProbeError, Prober
from tests.shells.front.slow_lab import FAILED, STARTING, asked, held, server
from tests.shells.front.visitors import NAVIGATION, exchange, parsed, request


async def test_a_person_gets_the_page_and_a_program_waits_for_the_server(stand_ins, sock, lab, http):
    """While the server starts a navigation is answered at once; everything else is held and answered by the server."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    program = asyncio.create_task(asked(http))
    status, headers, body = parsed(await exchange(sock, request(**NAVIGATION)))
    assert (status, headers["x-jlabd-state"]) == (503, "starting")
    assert b"alice is starting" in body
    await eventually(lambda: held(stand_ins) == 1)
    await lab.serve()
    assert not program.done()
    stand_ins.stop("alice")
    status, document = await program
    assert (status, document["pid"]) == (200, lab.pid)


async def test_whatever_was_sent_reaches_the_server(stand_ins, sock, lab, http):
    """A large upload, a long answer and a websocket that were held go on with the server as if nothing had been."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    payload = os.urandom(10_000_000)

    async def upload():
        async with http.post("/alice/upload", data=payload) as answer:
            return await answer.json()

    async def download():
        async with http.get("/alice/stream") as answer:
            return await answer.read()

    async def talk():
        async with http.ws_connect("/alice/ws") as channel:
            said = []
            for number in range(50):
                await channel.send_str(f"{number} " * 1000)
                said.append(await channel.receive_str())
            return said

    tasks = [asyncio.create_task(work) for work in (upload(), download(), talk())]
    await eventually(lambda: held(stand_ins) == 3)
    await lab.serve()
    stand_ins.stop("alice")
    uploaded, downloaded, said = await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert uploaded == {"pid": lab.pid, "sha256": hashlib.sha256(payload).hexdigest()}
    assert downloaded == b"".join(bytes([number]) * 65536 for number in range(128))
    assert said == [f"{number} " * 1000 for number in range(50)]
    await eventually(lambda: not stand_ins._crowd.tasks)


async def test_a_hundred_requests_during_a_start_are_all_answered_by_the_server(stand_ins, sock, lab, http):
    """Whoever accepts them, before, while and after the server becomes ready: nobody gets a 503."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    tasks = []
    for number in range(100):
        tasks.append(asyncio.create_task(asked(http, f"/alice/{number}")))
        if number == 50:
            await lab.serve()
        if number == 80:
            assert held(stand_ins) > 20
            stand_ins.stop("alice")
        await asyncio.sleep(0.01)
    answers = await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert [(status, document["pid"]) for status, document in answers] == [(200, lab.pid)] * 100
    assert [document["path"] for _, document in answers] == [f"/alice/{number}" for number in range(100)]


async def test_the_server_comes_first(stand_ins, sock, lab, http, monkeypatch):
    """Once the server accepts, the daemon leaves the connections to it although it was not stopped yet."""
    monkeypatch.setattr(door, "GRACE_S", 0.25)
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    await lab.serve()
    answers = [await asked(http, headers=NAVIGATION) for _ in range(20)]
    assert [status for status, _ in answers] == [200] * 20


async def test_what_was_passed_on_ends_with_its_answer(stand_ins, sock, lab):
    """A client that would keep the connection is told to make a new one: the daemon passes on no more than it must."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    task = asyncio.create_task(exchange(sock, request(Connection="keep-alive")))
    await eventually(lambda: held(stand_ins) == 1)
    await lab.serve()
    stand_ins.stop("alice")
    status, headers, body = parsed(await task)
    assert (status, headers["connection"]) == (200, "close")
    assert json.loads(body)["connection"] == "close"


async def test_requests_behind_the_first_are_answered_too(stand_ins, sock, lab):
    """A client that sends a second request without waiting for the first answer gets both."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    task = asyncio.create_task(exchange(sock, request() + request(Connection="close")))
    await eventually(lambda: held(stand_ins) == 1)
    await lab.serve()
    stand_ins.stop("alice")
    assert (await task).count(b"HTTP/1.1 200 OK") == 2


async def test_over_tcp_too(stand_ins, other):
    """A request that was held on a port is passed on to the server there."""
    async with server(other) as lab, aiohttp.ClientSession() as http:
        stand_ins.start("bob", other, lambda: STARTING, hold=True)
        task = asyncio.create_task(asked(http, f"http://127.0.0.1:{other.getsockname()[1]}/alice/x"))
        await eventually(lambda: held(stand_ins) == 1)
        await lab.serve()
        stand_ins.stop("bob")
        assert (await task)[1]["pid"] == lab.pid


async def test_a_start_that_fails_is_told_to_all_who_waited(stand_ins, sock, http):
    """Held requests get the 503 with the reason, a form that was sent too."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    form = asyncio.create_task(exchange(sock, request("POST", body=b"password=x", **NAVIGATION)))
    programs = [asyncio.create_task(asked(http)) for _ in range(5)]
    await eventually(lambda: held(stand_ins) == 6)
    stand_ins.start("alice", sock, lambda: FAILED)
    for status, document in await asyncio.gather(*programs):
        assert (status, document["reason"]) == (503, "gave up after 3 failures")
    assert b"gave up after 3 failures" in await form


async def test_a_second_start_keeps_those_who_wait(stand_ins, sock, lab, http):
    """When one attempt follows another at once, the requests wait on."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    program = asyncio.create_task(asked(http))
    await eventually(lambda: held(stand_ins) == 1)
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    await lab.serve()
    stand_ins.stop("alice")
    assert (await program)[0] == 200


async def test_a_client_that_goes_away_is_forgotten(stand_ins, sock, other, monkeypatch):
    """A held client that is gone makes room soon, over a unix socket and over TCP."""
    monkeypatch.setattr("jlabd.front.visit.LOOK_S", 0.1)
    for name, each in (("alice", sock), ("bob", other)):
        stand_ins.start(name, each, lambda: STARTING, hold=True)
        with socket.socket(each.family) as client:
            client.connect(each.getsockname())
            client.sendall(request("POST", body=b"x" * 10_000))
            await eventually(lambda: held(stand_ins) == 1)
        await eventually(lambda: held(stand_ins) == 0)


async def test_a_client_that_has_only_ended_its_request_is_not_gone(stand_ins, sock):
    """The end of a request reaches the server as such, and its answer the client, after more than one look."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    reader, writer = await asyncio.open_unix_connection(sock.getsockname())
    writer.write(request())
    writer.write_eof()
    await asyncio.sleep(1.2)
    assert held(stand_ins) == 1
    stand_ins.stop("alice")
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(sock)
    received = b""
    while chunk := await loop.sock_recv(connection, 65536):
        received += chunk
    assert received.startswith(b"GET /alice/lab")
    await loop.sock_sendall(connection, b"all of it")
    connection.close()
    assert await reader.read() == b"all of it"
    writer.close()


async def test_a_server_that_dies_over_its_answer_ends_the_connection(stand_ins, sock, lab, http):
    """Nobody hangs on a server that is gone."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    talk = asyncio.create_task(http.ws_connect("/alice/ws"))
    await eventually(lambda: held(stand_ins) == 1)
    await lab.serve()
    stand_ins.stop("alice")
    channel = await talk
    lab.process.kill()
    assert (await channel.receive(10)).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE}
    await channel.close()
    await eventually(lambda: not stand_ins._crowd.tasks)


async def test_who_is_held_when_the_instance_goes_is_told(stand_ins, sock, listeners):
    """When nobody listens any more, the held request gets an answer all the same."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    task = asyncio.create_task(exchange(sock))
    await eventually(lambda: held(stand_ins) == 1)
    stand_ins.stop("alice")
    listeners.close("alice")
    assert parsed(await task)[0] == 503


async def test_who_is_held_when_the_daemon_makes_way_comes_again_at_once(stand_ins, sock, http):
    """Draining answers those who wait, soon: another daemon cannot take them over."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    task = asyncio.create_task(exchange(sock))
    await eventually(lambda: held(stand_ins) == 1)
    await asyncio.wait_for(stand_ins.drain(5), 4)
    status, headers, _ = parsed(await task)
    assert (status, headers["retry-after"]) == (503, "1")


async def test_a_websocket_does_not_hold_up_a_daemon_that_makes_way(stand_ins, sock, lab, http):
    """Draining does not wait for what may last for days."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    talk = asyncio.create_task(http.ws_connect("/alice/ws"))
    await eventually(lambda: held(stand_ins) == 1)
    await lab.serve()
    stand_ins.stop("alice")
    channel = await talk
    await asyncio.wait_for(stand_ins.drain(5), 4)
    await channel.close()


# The daemon's own probe


async def test_the_probe_that_meets_the_stand_in_comes_again(stand_ins, sock, lab, spec):
    """A probe that the daemon itself accepted fails quickly, in words; once the server accepts, one gets through."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    with pytest.raises(ProbeError, match=NOT_ACCEPTING):
        await asyncio.wait_for(Prober().probe(spec.listen, "/alice/", is_lab=False, timeout_s=60), 5)
    await lab.serve()
    await asyncio.wait_for(Prober().probe(spec.listen, "/alice/", is_lab=False, timeout_s=60), 5)


# What a server may do to the socket


async def test_a_server_that_waits_in_accept_has_the_socket_for_itself(stand_ins, sock, http):
    """The daemon accepts no more on a socket that was made blocking while it is shared, and leaves it as it is."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    os.set_blocking(sock.fileno(), True)
    task = asyncio.create_task(exchange(sock))
    await asyncio.sleep(0.3)
    assert held(stand_ins) == 0
    assert os.get_blocking(sock.fileno())
    assert is_listening(sock)
    stand_ins.start("alice", sock, lambda: FAILED)
    assert parsed(await task)[0] == 503
