"""Who is at the other end of a connection: ids by the kernel, names and groups by the system."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from jlabd.control.authorize import Caller
from jlabd.threads import in_thread_once

CACHED_S = 5.0
LOOK_UP_S = 5.0
"""The longest that a directory service may take to tell who somebody is."""

_CREDENTIALS = struct.Struct("=iII")


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, by SO_PEERCRED: what it was at that moment."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer:
    """Return who connected. Raises OSError."""
    return Peer(*_CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))


class Callers:
    """Names and groups of peers, remembered for a moment. The group that `admin_group` names need not exist."""

    def __init__(self, admin_group: Callable[[], str]) -> None:
        self._admin_group = admin_group
        self.own_uid = os.geteuid()
        """The daemon's own account."""
        self._known: dict[tuple[int, int], tuple[float, Caller]] = {}

    async def identify(self, peer: Peer) -> Caller:
        """Return who `peer` is. Raises TimeoutError when the system does not say.

        root is never looked up: it must be able to act while the directory service is down.
        """
        if peer.uid == 0:
            return _caller(peer, "root", frozenset(), is_admin=True)
        known = self._known.get((peer.uid, peer.gid))
        if known is None or known[0] < time.monotonic():
            async with asyncio.timeout(LOOK_UP_S):
                caller = await in_thread_once(("caller", peer.uid, peer.gid), lambda: self._look_up(peer))
            self._remember(peer, caller)
        else:
            caller = known[1]
        return _caller(peer, caller.user, caller.groups, is_admin=caller.is_admin)

    def _remember(self, peer: Peer, caller: Caller) -> None:
        now = time.monotonic()
        self._known = {key: known for key, known in self._known.items() if known[0] >= now}
        self._known[peer.uid, peer.gid] = (now + CACHED_S, caller)

    def _look_up(self, peer: Peer) -> Caller:
        try:
            user = pwd.getpwuid(peer.uid).pw_name
            groups = frozenset(os.getgrouplist(user, peer.gid))
        except KeyError:
            # No account name has a space in it: nobody's instances can be taken for this caller's.
            user, groups = f"uid {peer.uid}", frozenset({peer.gid})
        is_admin = peer.uid == self.own_uid or self._admin_gid() in groups
        return _caller(peer, user, groups, is_admin=is_admin)

    def _admin_gid(self) -> int | None:
        try:
            return grp.getgrnam(self._admin_group()).gr_gid
        except KeyError:
            return None


def _caller(peer: Peer, user: str, groups: frozenset[int], *, is_admin: bool) -> Caller:
    return Caller(peer.uid, peer.gid, peer.pid, user, groups, is_root=peer.uid == 0, is_admin=is_admin)
