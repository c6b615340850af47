"""What somebody may do to the socket that she shares with the daemon: nothing of it may hold the daemon up."""

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from jlabd.front import standin
from jlabd.front.listeners import is_listening
from jlabd.front.standin import Standing

UNBLOCKS = Path(__file__).parents[2] / "children/unblocks.py"


@contextlib.contextmanager
def unblocking(sock):
    """Let another process make the socket blocking all the time."""
    child = subprocess.Popen([sys.executable, UNBLOCKS, str(sock.fileno())], pass_fds=[sock.fileno()])
    try:
        yield
    finally:
        child.kill()
        child.wait()


async def longest_hold_up(work):
    """Return the longest time for which the event loop did not turn while `work` was done."""
    longest, last, task = 0.0, time.monotonic(), asyncio.create_task(work)
    while not task.done():
        await asyncio.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    await task
    return longest


async def test_who_makes_the_socket_block_holds_nobody_up(stand_ins, listeners, spec):
    """A socket that somebody makes blocking between our making sure and our accepting is given up, at once."""
    sock = listeners.open(spec)
    stand_ins.start("alice", sock, lambda: Standing("stopped", "x"))

    async def visit():
        for _ in range(2000):
            if not is_listening(sock):
                return
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.5):
                    _, writer = await asyncio.open_unix_connection(spec.listen.path)
                    writer.close()
                await asyncio.sleep(0)

    with unblocking(sock):
        held_up = await longest_hold_up(visit())
    assert not is_listening(sock), "nobody ever won the race"
    assert held_up < 1.0
    assert listeners.open(spec) is not sock
    listeners.close("alice")


async def test_a_socket_that_lingers_holds_nobody_up(stand_ins, monkeypatch):
    """SO_LINGER, which connections inherit from the shared socket, does not make the daemon wait for a client."""
    monkeypatch.setattr(standin, "REQUEST_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as sock, socket.socket() as client:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
        stand_ins.start("alice", sock, lambda: Standing("failed", "x" * 20_000))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # takes in less than the answer
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, sock.getsockname())
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n")
        assert await longest_hold_up(asyncio.sleep(1)) < 1.0
        stand_ins.stop("alice")
