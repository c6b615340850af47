"""Stand-ins: what a visitor of a lab that is down is told, and that the socket stays the lab's."""

import asyncio
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rig.waiting import eventually

from jlabd.front import standin
from jlabd.front.standin import Standing
from jlabd.spec import TcpListen, UnixListen
from tests.shells.front.visitors import NAVIGATION, exchange, parsed, request

CHILD = Path(__file__).with_name("standin_child.py")


def failed():
    """Say how an instance stands that gave up."""
    return Standing("failed", "no program <b>/opt/x</b>")


async def test_a_person_gets_a_page_that_says_why(stand_ins, sock):
    """A navigation is answered 503 with state and reason, escaped, without anything from elsewhere."""
    stand_ins.start("alice", sock, failed)
    status, headers, body = parsed(await exchange(sock, request(**NAVIGATION)))
    text = body.decode()
    assert status == 503
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["retry-after"] == "30"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'; " in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert int(headers["content-length"]) == len(body)
    assert "failed" in text
    assert "no program &lt;b&gt;/opt/x&lt;/b&gt;" in text
    assert "alice" in text
    assert "http:" not in text
    assert "https:" not in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"Accept": "text/html,application/xhtml+xml"}, "text/html"),
        ({"Sec-Fetch-Mode": "navigate"}, "text/html"),
        ({"Sec-Fetch-Mode": "cors", "Accept": "text/html"}, "application/problem+json"),
        ({"Sec-Fetch-Mode": "websocket", "Upgrade": "websocket"}, "application/problem+json"),
        ({"Accept": "*/*"}, "application/problem+json"),
        ({}, "application/problem+json"),
    ],
)
async def test_only_a_navigation_gets_the_page(stand_ins, sock, headers, kind):
    """Programs, and the polling of a tab that is open, get JSON."""
    stand_ins.start("alice", sock, failed)
    status, answered, _ = parsed(await exchange(sock, request(**headers)))
    assert status == 503
    assert answered["content-type"].split(";")[0] == kind


async def test_a_program_gets_the_state_as_json(stand_ins, sock):
    """The problem document carries state and reason word for word; a backoff is worth coming back soon for."""
    stand_ins.start("alice", sock, lambda: Standing("backoff", "restarts in 4 s"))
    _, headers, body = parsed(await exchange(sock))
    document = json.loads(body)
    assert (document["state"], document["reason"], document["status"]) == ("backoff", "restarts in 4 s", 503)
    assert headers["retry-after"] == "5"
    assert headers["connection"] == "close"


async def test_head_has_no_body(stand_ins, sock):
    """HEAD gets the headers of GET, with the length, and nothing else."""
    stand_ins.start("alice", sock, failed)
    _, of_get, page = parsed(await exchange(sock, request(**NAVIGATION)))
    _, of_head, nothing = parsed(await exchange(sock, request("HEAD", **NAVIGATION)))
    assert nothing == b""
    assert of_head["content-length"] == of_get["content-length"] == str(len(page))


async def test_each_request_is_described_anew(stand_ins, sock):
    """The answer says how the instance stands now, not how it stood when the stand-in began."""
    reasons = iter(["at the start", "first", "second"])
    stand_ins.start("alice", sock, lambda: Standing("failed", next(reasons)))
    assert b"first" in await exchange(sock)
    assert b"second" in await exchange(sock)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00garbage\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"get / http/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nnocolon\r\n: empty\r\n\xff\xfe: \x00\r\n\r\n", 503),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    ],
)
async def test_garbage_gets_a_short_refusal(stand_ins, sock, data, status):
    """What is no request is refused, and the next visitor is served."""
    stand_ins.start("alice", sock, failed)
    assert parsed(await exchange(sock, data))[0] == status
    assert parsed(await exchange(sock))[0] == 503


async def test_a_large_upload_gets_its_answer(stand_ins, sock):
    """The answer arrives although the client has 20 MB to send: the connection is not reset under it."""
    stand_ins.start("alice", sock, failed)
    reader, writer = await asyncio.open_unix_connection(sock.getsockname())
    writer.write(request("PUT", body=b"x" * 20_000_000))
    await asyncio.wait_for(writer.drain(), 20)
    assert parsed(await asyncio.wait_for(reader.read(), 20))[0] == 503
    writer.close()


async def test_a_client_that_sends_for_ever_does_not_stop_the_loop(stand_ins, sock, monkeypatch):
    """Somebody else is answered while a client floods, and the flood is cut off."""
    monkeypatch.setattr(standin, "REQUEST_TIMEOUT_S", 1.0)
    stand_ins.start("alice", sock, failed)
    flood = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(b'POST / HTTP/1.1\\r\\n\\r\\n')\n"
        "try:\n  while True: s.sendall(bytes(65536))\n"
        "except OSError: print('cut off')"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", flood, sock.getsockname(), stdout=subprocess.PIPE
    )
    for _ in range(5):
        assert parsed(await exchange(sock))[0] == 503
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert output == b"cut off\n"


async def test_a_slow_client_is_cut_off(stand_ins, sock, monkeypatch):
    """A client that sends its request byte by byte has a time limit for the whole of it."""
    monkeypatch.setattr(standin, "REQUEST_TIMEOUT_S", 0.3)
    stand_ins.start("alice", sock, failed)
    reader, writer = await asyncio.open_unix_connection(sock.getsockname())

    async def drip():
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"G")
                await writer.drain()
                await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    assert await asyncio.wait_for(reader.read(), 5) == b""
    dripping.cancel()
    writer.close()


async def test_slow_clients_are_limited_in_number_and_others_wait(stand_ins, sock, monkeypatch):
    """No more connections than the limit are open; who waits is served when the slow ones are cut off."""
    monkeypatch.setattr(standin, "CONNECTIONS_EACH", 4)
    monkeypatch.setattr(standin, "REQUEST_TIMEOUT_S", 0.5)
    before = len(os.listdir("/proc/self/fd"))
    stand_ins.start("alice", sock, failed)
    slow = [socket.socket(socket.AF_UNIX) for _ in range(10)]
    for client in slow:
        client.connect(sock.getsockname())
    await eventually(lambda: len(os.listdir("/proc/self/fd")) >= before + 10 + 4)
    assert len(os.listdir("/proc/self/fd")) == before + 10 + 4
    assert parsed(await exchange(sock))[0] == 503
    for client in slow:
        client.close()


async def test_running_out_of_descriptors_is_no_busy_loop(stand_ins, sock):
    """With EMFILE the visitor waits, the processor rests, and the answer comes when there are descriptors again."""
    stand_ins.start("alice", sock, failed)
    client = socket.socket(socket.AF_UNIX)
    client.connect(sock.getsockname())
    client.sendall(request())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
    hogs = []
    with contextlib.suppress(OSError):
        while True:
            hogs.append(os.dup(0))
    try:
        used = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - used < 0.1
    finally:
        for hog in hogs:
            os.close(hog)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    client.setblocking(False)
    answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 100), 5)
    assert answer.startswith(b"HTTP/1.1 503")
    client.close()


async def test_a_socket_that_a_lab_shut_down_is_no_busy_loop(stand_ins, sock):
    """A broken socket is given up, instead of waking the loop for ever."""
    stand_ins.start("alice", sock, failed)
    sock.shutdown(socket.SHUT_RDWR)
    await asyncio.sleep(0.05)
    used = time.process_time()
    await asyncio.sleep(0.3)
    assert time.process_time() - used < 0.1


async def test_requests_after_stop_wait_for_the_lab(stand_ins, sock):
    """What comes between the stand-in's stop and the lab's first accept waits for the lab; and back again."""
    stand_ins.start("alice", sock, failed)
    assert parsed(await exchange(sock))[0] == 503
    stand_ins.stop("alice")
    waiting = [asyncio.create_task(exchange(sock)) for _ in range(20)]
    await asyncio.sleep(0.3)
    assert not any(task.done() for task in waiting)
    child = await asyncio.create_subprocess_exec(
        sys.executable, CHILD, "20", preexec_fn=lambda: os.dup2(sock.fileno(), 3), close_fds=False
    )
    answers = await asyncio.gather(*waiting)
    assert [parsed(answer)[2] for answer in answers] == [b"child"] * 20
    assert await asyncio.wait_for(child.wait(), 10) == 0
    stand_ins.start("alice", sock, failed)
    assert parsed(await exchange(sock))[0] == 503
    assert not os.get_blocking(sock.fileno())


async def test_switching_back_and_forth_loses_no_request(stand_ins, sock):
    """While stand-in and another acceptor take turns, every request gets an answer from one of them."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    async def turns():
        while not stopping.is_set():
            stand_ins.start("alice", sock, failed)
            await asyncio.sleep(0.005)
            stand_ins.stop("alice")
            await asyncio.sleep(0.005)

    switching = loop.create_task(turns())
    answers = await asyncio.gather(*(exchange(sock) for _ in range(300)))
    stopping.set()
    await switching
    assert {parsed(answer)[0] for answer in answers} == {503}


async def test_a_connection_that_was_accepted_is_answered_after_stop(stand_ins, sock):
    """Stop ends accepting only: who has begun to talk gets the answer."""
    stand_ins.start("alice", sock, failed)
    reader, writer = await asyncio.open_unix_connection(sock.getsockname())
    writer.write(b"GET / HTTP/1.1\r\n")
    await eventually(lambda: len(stand_ins._crowd.tasks) == 1)
    stand_ins.stop("alice")
    writer.write(b"\r\n")
    assert parsed(await asyncio.wait_for(reader.read(), 5))[0] == 503
    writer.close()
    stand_ins.stop("alice")


async def test_starting_twice_replaces(stand_ins, sock, listeners, spec):
    """The second start answers with its own words, also on a new socket in place of one that is closed."""
    stand_ins.start("alice", sock, failed)
    stand_ins.start("alice", sock, lambda: Standing("stopped", "stop requested"))
    assert b"stop requested" in await exchange(sock)
    moved = listeners.open(replace(spec, listen=TcpListen("127.0.0.1", 0)))
    stand_ins.start("alice", moved, failed)
    reader, writer = await asyncio.open_connection(*moved.getsockname())
    writer.write(request())
    assert parsed(await asyncio.wait_for(reader.read(), 5))[0] == 503
    writer.close()


async def test_a_thousand_stand_ins_cost_nothing_while_they_wait(stand_ins, listeners, runtime, spec):
    """1,000 of them use no processor time in half a second, and each one answers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        names = [f"lab{number}" for number in range(1000)]
        specs = [replace(spec, name=name, listen=UnixListen(f"{runtime}/sockets/{name}.sock")) for name in names]
        socks = [listeners.open(each) for each in specs]
        for name, each in zip(names, socks, strict=True):
            stand_ins.start(name, each, lambda name=name: Standing("stopped", f"{name} was stopped"))
        used = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - used < 0.1
        for number in (0, 500, 999):
            assert f"lab{number} was stopped".encode() in await exchange(socks[number])
    finally:
        for name in names:
            stand_ins.stop(name)
            listeners.close(name)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_visits_leak_no_descriptor(stand_ins, sock):
    """After many visits as many descriptors are open as before."""
    stand_ins.start("alice", sock, failed)
    await exchange(sock)
    await eventually(lambda: not stand_ins._crowd.tasks)
    before = len(os.listdir("/proc/self/fd"))
    await asyncio.gather(*(exchange(sock) for _ in range(200)))
    await eventually(lambda: not stand_ins._crowd.tasks and len(os.listdir("/proc/self/fd")) <= before)
