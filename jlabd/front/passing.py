"""Passing a connection on to the server of an instance that is ready by now.

The daemon accepted it while nobody else did, and has read its first bytes. It connects anew to the instance's listening
socket, on which only the server accepts now, and copies both ways until both ends are done.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket

CHUNK = 64 * 1024
CONNECT_S = 30.0
"""For a place in the backlog of a server that is overrun."""

LINGER_S = 30.0
"""For a client that stays silent although the server has ended the conversation."""

STALLED_S = 900.0
"""Who takes nothing for so long is given up, so that nobody can keep the daemon's descriptors for ever."""

_FULL_PAUSE_S = 0.05
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (nothing is bound: it says where to connect instead)


async def pass_on(client: socket.socket, received: bytes, listening: socket.socket) -> None:
    """Send `received` to who accepts on `listening`, then copy both ways until both are done.

    Raises OSError before anything was said to the client: nobody could be reached. After that, ends quietly.
    """
    loop = asyncio.get_running_loop()
    with await _connect(listening) as server:
        await loop.sock_sendall(server, received)
        await _both_ways(client, server)


def has_left(connection: socket.socket) -> bool:
    """Say whether the client is gone. One that only has nothing more to say is not, if that can be told apart."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    flags = next((flags for _, flags in poll.poll(0)), 0)
    if flags & (select.POLLHUP | select.POLLERR):
        return True
    return bool(flags & select.POLLRDHUP) and connection.family != socket.AF_UNIX


async def _connect(listening: socket.socket) -> socket.socket:
    """Return a connection to who accepts on `listening`. Raises OSError."""
    family, address = listening.family, listening.getsockname()
    if family != socket.AF_UNIX:
        address = (_HERE.get(address[0], address[0]), *address[1:])
    async with asyncio.timeout(CONNECT_S):
        while True:
            connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                await _begin(connection, address)
                return connection
            except OSError as error:
                connection.close()
                if error.errno != errno.EAGAIN:
                    raise
            except BaseException:
                connection.close()
                raise
            await asyncio.sleep(_FULL_PAUSE_S)


async def _begin(connection: socket.socket, address: str | tuple[str, int]) -> None:
    if connection.family == socket.AF_UNIX:
        connection.connect(address)  # at once or never; asyncio would take EAGAIN, a full backlog, for "under way"
        return
    await asyncio.get_running_loop().sock_connect(connection, address)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _both_ways(client: socket.socket, server: socket.socket) -> None:
    """Copy until both directions have ended."""
    up, down = asyncio.create_task(_one_way(client, server)), asyncio.create_task(_one_way(server, client))
    try:
        await asyncio.wait((down,))  # also if the server takes nothing more: it may have answered before
        if down.exception() is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await asyncio.wait((up,))
                    await swallow(client)
    finally:
        up.cancel()
        down.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _one_way(source: socket.socket, sink: socket.socket) -> None:
    """Copy until the end of `source`, then say so to `sink`; no more than one chunk is held. Raises OSError."""
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, CHUNK):
            async with asyncio.timeout(STALLED_S):
                await loop.sock_sendall(sink, data)
            await asyncio.sleep(0)  # what is there already comes without waiting: let the others run
    finally:
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


async def swallow(connection: socket.socket) -> None:
    """Take in what the client still sends: closing on unread data would make it lose the answer (RFC 9112, 9.6)."""
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(connection, CHUNK):  # noqa: ASYNC110  (the sleep lets others run, and waits for nothing)
        await asyncio.sleep(0)
