"""Who answers on an instance's socket while nothing of the instance runs: the daemon, with the reason.

The listening socket is shared with the lab, before and after: it is neither closed, nor shut down, nor made blocking
here. Requests that nobody has accepted when a stand-in stops wait in the backlog for the lab.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

import structlog

from jlabd.front.listeners import is_listening
from jlabd.front.page import BadRequestError, Standing, answer, parse, refusal

__all__ = ["StandIns", "Standing"]

log = structlog.get_logger()

REQUEST_TIMEOUT_S = 10.0
"""For a whole request and its answer; a client that is slower is cut off."""

CONNECTIONS_EACH = 64
"""Connections of one instance that are answered at the same time; more of them wait in the backlog."""

CONNECTIONS_ALL = 512
"""The same for all instances: the daemon needs its descriptors for other things."""

_ACCEPTED_AT_ONCE = 16
_LARGEST_HEAD = 64 * 1024
_CHUNK = 64 * 1024
_CROWDED_PAUSE_S = 0.1
_SHORT_PAUSE_S = 1.0
_ACCEPT_S = 0.1
"""For accepting what is there, which takes microseconds."""
_NO_LINGER = struct.pack("ii", 0, 0)
_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Describe = Callable[[], Standing]


class _InterruptedAcceptError(OSError):
    """Accepting would have held up the daemon."""


@contextmanager
def _interruption(after_s: float) -> Iterator[None]:
    """Raise _InterruptedAcceptError in a system call that takes longer. For the main thread, as all of the daemon."""
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(_number: int, _frame: object) -> None:
    raise _InterruptedAcceptError(errno.EINTR, "the socket blocks")


class StandIns:
    """The stand-ins of all instances, in the running event loop. One that waits costs an entry in epoll."""

    def __init__(self) -> None:
        self._serving: dict[str, _StandIn] = {}
        self._answers: set[asyncio.Task[None]] = set()

    def start(self, name: str, sock: socket.socket, describe: Describe) -> None:
        """Answer on `sock` for the instance `name`; instead of what was answered for it before.

        `sock` is a listening socket that stays open until `stop`. `describe` is called for each request.
        """
        self.stop(name)
        self._serving[name] = _StandIn(name, sock, describe, self._answers)

    def stop(self, name: str) -> None:
        """Accept nothing more for `name`; connections that were accepted are still answered."""
        stand_in = self._serving.pop(name, None)
        if stand_in is not None:
            stand_in.stop()

    async def drain(self, timeout_s: float) -> None:
        """Accept nothing more for anybody, and give the answers that are under way so much time to get out."""
        for name in tuple(self._serving):
            self.stop(name)
        if self._answers:
            await asyncio.wait(tuple(self._answers), timeout=timeout_s)

    async def close(self) -> None:
        """Stop all, and cut off the connections that are still being answered."""
        for name in tuple(self._serving):
            self.stop(name)
        answers = tuple(self._answers)
        for task in answers:
            task.cancel()
        await asyncio.gather(*answers, return_exceptions=True)


class _StandIn:
    """Accepts on one socket."""

    def __init__(self, name: str, sock: socket.socket, describe: Describe, everybody: set[asyncio.Task[None]]) -> None:
        self._name = name
        self._socket = sock
        self._fileno = sock.fileno()
        self._describe = describe
        self._everybody = everybody
        self._mine = 0
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._listen()

    def stop(self) -> None:
        """Leave the socket alone."""
        self._loop.remove_reader(self._fileno)
        if self._pause is not None:
            self._pause.cancel()

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fileno, self._accept_some)

    def _rest(self, pause_s: float) -> None:
        """Let the clients wait in the backlog for a while."""
        self.stop()
        self._pause = self._loop.call_later(pause_s, self._listen)

    def _accept_some(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._mine >= CONNECTIONS_EACH or len(self._everybody) >= CONNECTIONS_ALL:
                return self._rest(_CROWDED_PAUSE_S)
            try:
                connection = self._accept()
            except OSError as error:
                return self._cannot_accept(error)
            self._begin(connection)
        return None

    def _accept(self) -> socket.socket:
        """Accept one connection. Raises OSError."""
        self._socket.setblocking(False)  # a lab that shared the socket may have made it blocking since
        with _interruption(_ACCEPT_S):  # and who still shares it may do so at this very moment
            connection, _ = self._socket.accept()
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:  # inherited from the shared socket: closing would wait for the client
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        return connection

    def _cannot_accept(self, error: OSError) -> None:
        """Wait for the next client; unless there is a lack, which passes, or the socket is broken, which does not.

        Other errors are the matter of the one connection that could not be accepted (accept(2), "Error handling").
        """
        if isinstance(error, _InterruptedAcceptError):
            self._socket.shutdown(socket.SHUT_RDWR)  # nobody is to use it any more
        if error.errno in _SHORT_OF:
            log.warning("Visitors of a lab that is down have to wait.", instance=self._name, error=error.strerror)
            self._rest(_SHORT_PAUSE_S)
        elif not is_listening(self._socket):
            log.error(
                "The socket of a lab that is down is broken; its next start makes a new one.", instance=self._name
            )
            self.stop()

    def _begin(self, connection: socket.socket) -> None:
        task = self._loop.create_task(self._serve(connection), name=f"{self._name} stand-in")
        self._mine += 1
        self._everybody.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._mine -= 1
        self._everybody.discard(task)

    async def _serve(self, connection: socket.socket) -> None:
        """Answer one request and close the connection."""
        with connection:
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    if head := await self._head(connection):
                        await self._loop.sock_sendall(connection, self._answer(head))
                        await self._linger(connection)
            except (OSError, TimeoutError):
                pass  # the client went away, or is too slow to be served

    async def _head(self, connection: socket.socket) -> bytes:
        """Read the head of the request; empty when the client only looked in. Too long a head comes back cut."""
        data = bytearray()
        while b"\r\n\r\n" not in data and len(data) < _LARGEST_HEAD:
            chunk = await self._loop.sock_recv(connection, _CHUNK)
            if not chunk:
                break
            data += chunk
        return bytes(data)

    def _answer(self, received: bytes) -> bytes:
        head, end, _ = received.partition(b"\r\n\r\n")
        if not end and len(received) >= _LARGEST_HEAD:
            return refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        try:
            return answer(self._name, self._describe(), parse(head))
        except BadRequestError:
            return refusal(HTTPStatus.BAD_REQUEST)

    async def _linger(self, connection: socket.socket) -> None:
        """Take in what the client still sends: closing on unread data would make it lose the answer (RFC 9112, 9.6)."""
        connection.shutdown(socket.SHUT_WR)
        chunk = b"?"
        while chunk:
            chunk = await self._loop.sock_recv(connection, _CHUNK)
            await asyncio.sleep(0)  # what is there already comes without waiting: let the others run
