"""The instances' listening sockets: bound by the daemon, inherited by the labs, open as long as the instance exists.

A socket outlives the incarnations that accept on it, so that requests wait in its backlog while one takes over from
another. Labs share it as one open file: what a lab does to it (blocking mode, shutdown) the daemon sees too, and `open`
replaces a socket that a lab has broken.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from jlabd.spec import DaemonSpec, InstanceSpec, Listen, TcpListen, UnixListen
from jlabd.unixsocket import LONGEST_PATH, UnixListener, listen_unix

BACKLOG = 1024
"""Requests that wait while an instance restarts; the kernel's net.core.somaxconn may make it less."""

_PERMANENT = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG})


class ListenError(Exception):
    """A socket could not be had. `reason` is the sentence; `permanent`: useless to try again unchanged."""

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class _Held:
    """One socket of ours, and the name in the file system that goes with it."""

    listen: Listen
    socket: socket.socket
    named: UnixListener | None

    def can_be_found(self) -> bool:
        """Return whether the name in the file system, if there is one, still leads to this socket."""
        return self.named is None or self.named.is_in_place()

    def close(self) -> None:
        """Close the socket; a name in the file system goes too, if it is still the one that we made."""
        if self.named is not None:
            self.named.close()
        else:
            self.socket.close()


class Keeper(Protocol):
    """Who keeps copies of the sockets while no daemon runs."""

    def keep(self, name: str, sock: socket.socket) -> None:
        """Keep a copy of the instance's socket, instead of the one that may have been kept before."""

    def drop(self, name: str) -> None:
        """Keep the instance's socket no more."""


class Listeners:
    """The table of listening sockets, by instance name. All are non-blocking and closed on exec."""

    def __init__(self, daemon: DaemonSpec, nginx_group_gid: int | None, keeper: Keeper | None = None) -> None:
        self._folder = Path(daemon.sockets_dir)
        self._gid = nginx_group_gid
        self._held: dict[str, _Held] = {}
        self._keeper = keeper

    def open(self, spec: InstanceSpec) -> socket.socket:
        """Return the instance's listening socket: the one that is open, else a new one. Raises ListenError.

        When `spec.listen` is another one than before, the old socket is closed first: its port may be a part of it.
        """
        held = self._held.get(spec.name)
        if held is not None and held.listen == spec.listen and is_listening(held.socket) and held.can_be_found():
            held.socket.setblocking(False)
            return held.socket
        self.close(spec.name)
        return self._hold(spec.name, self._bind(spec.listen))

    def close(self, name: str) -> None:
        """Close the instance's socket and remove its name from the file system; nothing if there is none."""
        held = self._held.pop(name, None)
        if held is not None:
            held.close()
            if self._keeper is not None:
                self._keeper.drop(name)

    def release(self, name: str) -> None:
        """Close the daemon's own descriptor only: the name stays, for the lab or for the daemon's successor."""
        held = self._held.pop(name, None)
        if held is not None:
            held.socket.close()

    def holds(self, spec: InstanceSpec) -> bool:
        """Return whether the instance's socket is open and listens where `spec` says."""
        held = self._held.get(spec.name)
        return held is not None and held.listen == spec.listen and is_listening(held.socket)

    def descriptors(self) -> dict[str, int]:
        """Return the descriptors of all sockets by instance; they stay ours."""
        return {name: held.socket.fileno() for name, held in self._held.items()}

    def fileno(self, name: str) -> int:
        """Return the descriptor of the instance's socket. Raises KeyError."""
        return self._held[name].socket.fileno()

    def adopt(self, spec: InstanceSpec, descriptor: int) -> socket.socket:
        """Take over a descriptor of the instance's socket from elsewhere, and own it from now on.

        Raises ListenError when it does not listen where `spec` says; the descriptor stays the caller's then.
        """
        try:
            found = socket.socket(fileno=descriptor)
        except OSError as error:
            raise ListenError(f"Descriptor {descriptor}: {error.strerror}.", permanent=True) from error
        if _bound_to(found) != spec.listen or not is_listening(found):
            found.detach()
            raise ListenError(f"Descriptor {descriptor} does not listen at {spec.listen}.", permanent=True)
        found.setblocking(False)
        found.set_inheritable(False)
        self.release(spec.name)
        return self._hold(spec.name, _Held(spec.listen, found, _named(spec.listen, found)))

    def _hold(self, name: str, held: _Held) -> socket.socket:
        self._held[name] = held
        if self._keeper is not None:
            self._keeper.keep(name, held.socket)
        return held.socket

    def _bind(self, listen: Listen) -> _Held:
        match listen:
            case UnixListen(path):
                named = self._bind_unix(path)
                return _Held(listen, named.socket, named)
            case TcpListen():
                return _Held(listen, _bind_tcp(listen), None)

    def _bind_unix(self, path: str) -> UnixListener:
        """Bind in the folder that only we can write. Nobody can connect before mode and group are right."""
        if Path(path).parent != self._folder:
            raise ListenError(f"The socket {path} is not in {self._folder}.", permanent=True)
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise ListenError(
                f"The path of the socket, {path}, is longer than the {LONGEST_PATH} bytes that the system allows: "
                "use a shorter daemon.runtime_dir.",
                permanent=True,
            )
        as_root = os.geteuid() == 0
        owner = (0, self._gid) if as_root and self._gid is not None else None
        try:
            self._make_folder(owner)
            return listen_unix(path, 0o660 if owner else 0o600, owner, BACKLOG)
        except OSError as error:
            raise _unix_error(path, error) from error

    def _make_folder(self, owner: tuple[int, int] | None) -> None:
        """Make the folder of the sockets, or check the one that is there. Raises OSError, ListenError."""
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
        status = self._folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise ListenError(f"{self._folder} is not a folder of our own: move it away.", permanent=True)
        if owner is not None and (status.st_uid, status.st_gid) != owner:
            os.chown(self._folder, *owner, follow_symlinks=False)
        mode = 0o750 if owner is not None else 0o700
        if stat.S_IMODE(status.st_mode) != mode:
            self._folder.chmod(mode)


def _bind_tcp(listen: TcpListen) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    bound: socket.socket | None = None
    try:
        address = socket.getaddrinfo(
            listen.host, listen.port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )[0][4]
        bound = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        if bound is not None:
            bound.close()
        raise _tcp_error(listen, error) from error
    return bound


def _tcp_error(listen: TcpListen, error: OSError) -> ListenError:
    where = f"Port {listen.port} on {listen.host}"
    if isinstance(error, socket.gaierror):
        return ListenError(f"{listen.host} is not an IP address to listen on.", permanent=True)
    if error.errno == errno.EADDRINUSE:
        return ListenError(f"{where} is in use{_holder(listen.port)}.", permanent=False)
    if error.errno == errno.EADDRNOTAVAIL:
        return ListenError(f"{where}: this machine does not have that address.", permanent=False)
    return ListenError(f"{where}: {error.strerror}.", permanent=error.errno in _PERMANENT)


def _unix_error(path: str, error: OSError) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        return ListenError(f"Another process listens on the socket {path}.", permanent=False)
    return ListenError(f"The socket {path}: {error.strerror}.", permanent=error.errno in _PERMANENT)


def _holder(port: int) -> str:
    """Say who listens on a port, as far as we may know it."""
    try:
        pids = [found.pid for found in psutil.net_connections("tcp") if _listens_on(found, port) and found.pid]
        return "".join(f" by pid {pid} ({psutil.Process(pid).name()})" for pid in pids[:1])
    except (psutil.Error, OSError):
        return ""


def _listens_on(connection: Any, port: int) -> bool:
    return bool(connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port)


def is_listening(sock: socket.socket) -> bool:
    """Say whether the socket can accept: a lab that shares it may have shut it down (closing its own does no harm)."""
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return not poll.poll(0)


def _bound_to(sock: socket.socket) -> Listen | None:
    """Return where a socket is bound; None when it is no socket that we could have bound."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return UnixListen(address) if isinstance(address, str) else None
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        return TcpListen(address[0], address[1])
    return None


def _named(listen: Listen, sock: socket.socket) -> UnixListener | None:
    """Give an adopted unix socket its name back."""
    if not isinstance(listen, UnixListen):
        return None
    try:
        status = Path(listen.path).lstat()
    except OSError:
        return UnixListener(listen.path, sock, (0, 0))
    return UnixListener(listen.path, sock, (status.st_dev, status.st_ino))
