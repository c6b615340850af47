"""Listening unix sockets with a name in the file system, whatever the length of the path.

The folder of the socket must not be writable by anybody who is not trusted with it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

LONGEST_PATH = 107
"""Bytes of a path that the kernel takes in an address (sun_path, unix(7))."""


@dataclass(frozen=True, slots=True)
class UnixListener:
    """A listening socket and the name it was bound to."""

    path: str
    socket: socket.socket
    identity: tuple[int, int] = field(repr=False)
    """Device and inode of the name, to tell it from one that somebody bound later."""

    def is_in_place(self) -> bool:
        """Say whether the name still leads to this socket: somebody may have removed or replaced it. Raises OSError."""
        try:
            return _identity(self.path) == self.identity
        except (FileNotFoundError, NotADirectoryError):
            return False

    def close(self) -> None:
        """Close the socket and remove its name, unless the name is somebody else's by now."""
        self.socket.close()
        if self.is_in_place():
            with suppress(FileNotFoundError):
                os.unlink(self.path)  # noqa: PTH108  (beside lstat, by the same string)


def listen_unix(path: str, mode: int, owner: tuple[int, int] | None = None, backlog: int = 128) -> UnixListener:
    """Bind and listen at `path`, which gets `mode` and `owner` (uid, gid) before anybody can connect.

    A socket that nobody listens on any more is replaced. Raises OSError: EADDRINUSE when somebody does, EEXIST when the
    name is something else than a socket.
    """
    _make_way(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with address(path) as short:
            listener.bind(short)
        if owner is not None:
            os.chown(path, *owner, follow_symlinks=False)
        os.chmod(path, mode)  # noqa: PTH101  (the name was bound just now, in a folder that only we can write)
        listener.listen(backlog)
        return UnixListener(path, listener, _identity(path))
    except OSError:
        listener.close()
        raise


def adopt_unix(path: str, descriptor: int) -> UnixListener:
    """Own the listening socket `descriptor` from now on, and the name `path` if it is its. Raises OSError."""
    listener = socket.socket(fileno=descriptor)
    listener.setblocking(False)
    return UnixListener(path, listener, _identity(path))


@contextmanager
def address(path: str) -> Iterator[str]:
    """Give a name for `path` that fits into a socket address: itself, or one by way of its open folder."""
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield path
        return
    folder, name = os.path.split(path)
    descriptor = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _make_way(path: str) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise FileExistsError(errno.EEXIST, "something that is not a socket is in the way", path)
    if _somebody_listens(path):
        raise OSError(errno.EADDRINUSE, "another process listens there", path)
    os.unlink(path)  # noqa: PTH108  (beside lstat, by the same string)


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe, address(path) as short:
        error = probe.connect_ex(short)
    return error not in (errno.ECONNREFUSED, errno.ENOENT)
