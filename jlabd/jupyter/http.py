"""One GET to an instance's own server, over its socket.

By hand, because it is asked of every instance again and again: a third of what an HTTP library takes (see
`benchmarks/activity.py`). HTTP/1.0 asks for an answer that is neither sent in chunks nor followed by another.
"""

from __future__ import annotations

import asyncio
import errno
import json
import re
import socket
from collections.abc import Mapping
from typing import Any, assert_never

from jlabd.spec import Listen, TcpListen, UnixListen
from jlabd.unixsocket import address

MAX_BYTES = 64 * 1024
CHUNK = 64 * 1024
CROWDED_PAUSE_S = 0.05
OUR_OWN_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (nothing is bound: it says where to connect instead)

_HEAD = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n((?:[^\r\n]+\r\n)*)\r\n")
_LENGTH = re.compile(rb"^content-length:[ \t]*([0-9]{1,18})[ \t]*\r$", re.IGNORECASE | re.MULTILINE)


class NoAnswerError(Exception):
    """The server gave no answer; the text is a sentence that says why."""


class CannotAskError(Exception):
    """The daemon lacks what it takes to ask, which says nothing of the server; the text is a sentence that says so."""


async def get(
    listen: Listen, path: str, timeout_s: float, headers: Mapping[str, str], most: int = MAX_BYTES
) -> tuple[int, bytes]:
    """Return status and the beginning of the body, about `most` bytes of it. Raises NoAnswerError, CannotAskError.

    The connection is of this request alone: one that was kept would hide that nobody accepts new ones any more.
    """
    fields = {"Host": "localhost", "Connection": "close", **headers}
    request = f"GET {path} HTTP/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    try:
        async with asyncio.timeout(timeout_s):
            with _socket(listen) as connection:
                await _connect(connection, listen)
                return await _ask(connection, request.encode(), most)
    except TimeoutError as error:
        raise NoAnswerError(f"no answer within {timeout_s:g} s") from error
    except OSError as error:
        if error.errno in OUR_OWN_TROUBLE:
            raise CannotAskError(f"jlabd cannot open a connection: {error.strerror}") from error
        raise NoAnswerError(f"cannot connect to {listen}: {error.strerror}") from error


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that `body` is. Raises ValueError for everything else, however malicious."""
    found = _json(body)
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004  (the text is wrong, not the caller)
    return found


def json_objects(body: bytes) -> list[dict[str, Any]]:
    """Return the JSON list of objects that `body` is. Raises ValueError for everything else, however malicious."""
    found = _json(body)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError("not a list of objects")
    return found


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _socket(listen: Listen) -> socket.socket:
    match listen:
        case UnixListen():
            family = socket.AF_UNIX
        case TcpListen(host):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
        case _:
            assert_never(listen)
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


async def _connect(connection: socket.socket, listen: Listen) -> None:
    match listen:
        case UnixListen(path):
            await _connect_unix(connection, path)
        case TcpListen(host, port):
            await asyncio.get_running_loop().sock_connect(connection, (WILDCARDS.get(host, host), port))
        case _:
            assert_never(listen)


async def _connect_unix(connection: socket.socket, path: str) -> None:
    with address(path) as short:
        while True:
            try:
                return connection.connect(short)
            except BlockingIOError:  # the backlog is full, and nobody says when it is not any more
                await asyncio.sleep(CROWDED_PAUSE_S)


async def _ask(connection: socket.socket, request: bytes, most: int) -> tuple[int, bytes]:
    loop = asyncio.get_running_loop()
    data = bytearray()
    try:
        await loop.sock_sendall(connection, request)
        while not _is_complete(data, most) and (chunk := await loop.sock_recv(connection, CHUNK)):
            data += chunk
    except OSError as error:
        raise NoAnswerError(f"the connection ended without an answer ({error.strerror})") from error
    if not data:
        raise NoAnswerError("the connection ended without an answer")
    head = _HEAD.match(data)
    if head is None:
        raise NoAnswerError("what it answered is not HTTP")
    return int(head[1]), bytes(data[head.end() :])


def _is_complete(data: bytearray, most: int) -> bool:
    if len(data) >= most:
        return True
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = _LENGTH.search(data, 0, end + 2)
    return length is not None and len(data) >= end + 4 + int(length[1])
