"""The client's end of the control socket: HTTP/1.0, one request a connection, with answers that are read as they come.

Quick to import: the bare `_socket`, because `socket`, `http.client` and the like take longer to import than a whole
status request takes.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_STREAM, socket

from jlabd.control.wire import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ANSWER_S = 30.0
"""A daemon that says nothing for so long, when nothing was to be waited for, is taken as hung."""

_CHUNK = 65536
_LONGEST_HEAD = 65536
_LONGEST_PATH = 107


class UnreachableError(Exception):
    """No daemon answers on the socket; the text says why."""


class ProblemError(Exception):
    """The daemon refused. `status` is the HTTP status; the text is the sentence for the user."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Reply:
    """An answer whose body has not been read yet."""

    def __init__(self, connection: socket, status: int, rest: bytes) -> None:
        self.status = status
        self._connection = connection
        self._rest = rest

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes. Raises UnreachableError when the daemon goes away."""
        if self._rest:
            yield self._rest
        while data := _receive(self._connection):
            yield data
        self._connection.close()

    def lines(self) -> Iterator[bytes]:
        """Yield the body line by line, without newlines; a last line without its newline is dropped as incomplete."""
        rest = b""
        for chunk in self.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole

    def read(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.chunks())


def request(path: str, method: str, target: str, body: Any = None, timeout: float | None = ANSWER_S) -> Reply:
    """Ask the daemon whose control socket is at `path`, and return its answer when it begins.

    `timeout` is the longest silence in seconds, None for ever. Raises UnreachableError, ProblemError.
    """
    connection = _connect(path)
    connection.settimeout(timeout)
    try:
        connection.sendall(_request(method, target, body))
    except BrokenPipeError:
        pass  # The daemon turned us away, and its answer says why.
    except OSError as error:
        raise UnreachableError(f"jlabd hung up ({error.strerror or error})") from None
    reply = _reply(connection)
    if reply.status >= 400:
        raise _problem(reply)
    return reply


def _request(method: str, target: str, body: Any) -> bytes:
    content = b"" if body is None else dumps(body)
    head = f"{method} {target} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def _connect(path: str) -> socket:
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        _connect_to(connection, path)
    except FileNotFoundError:
        raise UnreachableError(f"jlabd is not running (no {path}): systemctl start jlabd") from None
    except ConnectionRefusedError:
        raise UnreachableError(f"jlabd is not running (nobody answers at {path}): systemctl start jlabd") from None
    except OSError as error:
        raise UnreachableError(f"cannot reach jlabd at {path}: {error.strerror or error}") from None
    return connection


def _connect_to(connection: socket, path: str) -> None:
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        connection.connect(path)
        return
    # An address holds 107 bytes; a longer path fits by way of its open folder.
    folder, name = os.path.split(path)
    descriptor = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)


def _receive(connection: socket) -> bytes:
    try:
        return connection.recv(_CHUNK)
    except TimeoutError:
        raise UnreachableError("jlabd does not answer") from None
    except OSError as error:
        raise UnreachableError(f"jlabd hung up ({error.strerror or error})") from None


def _reply(connection: socket) -> Reply:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = _receive(connection)
        if not chunk or len(data) > _LONGEST_HEAD:
            raise UnreachableError("jlabd hung up before it answered")
        data += chunk
    head, _, rest = data.partition(b"\r\n\r\n")
    return Reply(connection, _status(head), rest)


def _status(head: bytes) -> int:
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise UnreachableError("what answers on the control socket is not jlabd")
    return int(words[1])


def _problem(reply: Reply) -> ProblemError:
    body = reply.read()
    try:
        detail = str(loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"jlabd answered with status {reply.status}"
    return ProblemError(reply.status, detail)
