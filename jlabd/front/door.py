"""Accepting on a socket that is shared with a server, which may do to it whatever it likes.

The listening socket is neither closed, nor shut down, nor (while a server uses it) made blocking or not.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from jlabd.front.listeners import is_listening

log = structlog.get_logger()

GRACE_S = 0.25
"""While a server starts, it is given so much time to accept a connection before the daemon does."""

_ACCEPTED_AT_ONCE = 16
_CROWDED_PAUSE_S = 0.1
_SHORT_PAUSE_S = 1.0
_ACCEPT_S = 0.1
"""For accepting what is there, which takes microseconds."""
_NO_LINGER = struct.pack("ii", 0, 0)
_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


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


class Door:
    """Accepts on one socket at a time: gives each connection to `receive`, and none while `full()`."""

    def __init__(self, name: str, receive: Callable[[socket.socket], None], full: Callable[[], bool]) -> None:
        self._name = name
        self._receive = receive
        self._full = full
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._fileno = -1
        self._shared = False
        self._pause: asyncio.TimerHandle | None = None

    def open(self, sock: socket.socket, *, shared: bool, after_s: float) -> None:
        """Accept on `sock`, from `after_s` seconds from now on, and no more on another one.

        `shared`: a server may accept there too, and comes first.
        """
        self.close()
        self._socket, self._fileno, self._shared = sock, sock.fileno(), shared
        if after_s > 0:
            self._rest(after_s)
        else:
            self._listen()

    def close(self) -> None:
        """Leave the socket alone."""
        if self._fileno >= 0:
            self._loop.remove_reader(self._fileno)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fileno, self._give_grace if self._shared else self._accept_some)

    def _rest(self, pause_s: float) -> None:
        """Let the clients wait in the backlog for a while."""
        self.close()
        self._pause = self._loop.call_later(pause_s, self._listen)

    def _give_grace(self) -> None:
        """Somebody has come: accept only what the server has not accepted by itself after a while."""
        self.close()
        self._pause = self._loop.call_later(GRACE_S, self._accept_what_is_left)

    def _accept_what_is_left(self) -> None:
        self._listen()
        self._accept_some()

    def _accept_some(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._full():
                return self._rest(_CROWDED_PAUSE_S)
            if self._shared and os.get_blocking(self._fileno):
                return self.close()  # the server means to wait in accept: it is there, and the socket its own
            try:
                connection = self._accept()
            except OSError as error:
                return self._cannot_accept(error)
            self._receive(connection)
        if self._shared:  # the others have waited as long
            self.close()
            self._pause = self._loop.call_later(0, self._accept_what_is_left)
        return None

    def _accept(self) -> socket.socket:
        """Accept one connection. Raises OSError."""
        assert self._socket is not None
        if not self._shared:
            self._socket.setblocking(False)  # a server that shared the socket may have made it blocking since
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
        assert self._socket is not None
        if isinstance(error, _InterruptedAcceptError):
            if self._shared:
                return self.close()
            self._socket.shutdown(socket.SHUT_RDWR)  # nobody is to use it any more
        if error.errno in _SHORT_OF:
            log.warning("Visitors of a lab that is down have to wait.", instance=self._name, error=error.strerror)
            self._rest(_SHORT_PAUSE_S)
        elif not is_listening(self._socket):
            log.error(
                "The socket of a lab that is down is broken; its next start makes a new one.", instance=self._name
            )
            self.close()
        return None
