"""Telling the processes of one instance from all others, without cgroups.

Two marks are inherited over fork and exec, whatever a program does with sessions, parents and descriptors:

- The hard limit RLIMIT_RTTIME, set to a number that belongs to the instance (`realtime_limit`). It bounds the time that
  a *real-time* thread may compute without a system call; ours are above 146,000 years, so no program notices. Everybody
  may read it in /proc/PID/limits, only root may raise it, and `env -i` does not touch it: so it finds what the second
  mark loses. An ordinary user can lower it: real-time audio programs do, and a hostile program may, to hide.
- The variable JLABD_MARK in the environment that the process was started with. `env -i` loses it; it finds what root
  labs, and programs that lower the limit, do not show.

What carries neither is still found as a descendant of what does, as a member of a session that the instance opened, and
(as a last resort) as an orphan of that user's when no other instance of hers is left that it could belong to.

Nobody can have somebody else's process killed by copying a mark: a mark counts only if the real uid is the account's.
Only root's processes count with the limit alone: they come from `sudo` and its like, started by the lab.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from jlabd.processes import procfs
from jlabd.processes.identity import Identity

_LOWEST_LIMIT = 2**62
_FRESH_S = 0.5
"""How old a look at the processes may be to answer for status."""
_BREATH = 48
"""Processes that are looked at before the event loop may do something else."""


def mark_of(runtime_dir: str, name: str) -> str:
    """Return the mark of the instance `name` of the daemon that owns `runtime_dir`."""
    return hashlib.sha256(f"{os.path.realpath(runtime_dir)}\0{name}".encode()).hexdigest()[:32]


def realtime_limit(mark: str) -> int:
    """Return the RLIMIT_RTTIME in microseconds that goes with a mark."""
    digest = hashlib.sha256(mark.encode()).digest()
    return _LOWEST_LIMIT | int.from_bytes(digest[:8]) >> 2


def is_ours(limit: int | None) -> bool:
    """Say whether a hard RLIMIT_RTTIME was set by jlabd."""
    return limit is not None and _LOWEST_LIMIT <= limit < 2 * _LOWEST_LIMIT


@dataclass(slots=True)
class Target:
    """Whose processes are looked for."""

    name: str
    mark: str
    uid: int | None
    """The account's; None if it is not known (an instance of an earlier daemon): then only the limit counts."""
    limit: int = field(init=False)
    leader: Identity | None = None
    """The server, which may have dropped its marks."""
    since: int = 0
    """Nothing of it is older: ticks since boot as in `procfs.Stat.start_ticks`; 0 if that is not known."""

    def __post_init__(self) -> None:
        self.limit = realtime_limit(self.mark)


def begin_target(targets: dict[str, Target], target: Target) -> Target:
    """Put `target` in the place of an earlier one of its name; nothing of it runs yet, but what that one began may."""
    before = targets.get(target.name)
    target.since = procfs.ticks_now() if before is None else before.since
    targets[target.name] = target
    return target


class Seen(NamedTuple):
    """One living process and its marks."""

    stat: procfs.Stat
    limit: int | None
    mark: str | None


class Snapshot:
    """All living processes of users, looked at one after the other within some milliseconds."""

    def __init__(self) -> None:
        self.seen: dict[int, Seen] = {}
        self._children: defaultdict[int, list[int]] = defaultdict(list)
        self._limited: defaultdict[int | None, set[int]] = defaultdict(set)
        self._marked: defaultdict[str | None, set[int]] = defaultdict(set)
        self._sessions: defaultdict[int, set[int]] = defaultdict(set)
        self._uids: dict[int, int | None] = {}

    def add(self, one: Seen) -> None:
        """Take one process in."""
        pid = one.stat.pid
        self.seen[pid] = one
        self._children[one.stat.ppid].append(pid)
        self._limited[one.limit].add(pid)
        self._marked[one.mark].add(pid)
        self._sessions[one.stat.session].add(pid)

    def real_uid(self, pid: int) -> int | None:
        """Return the real user of a process, None if it is gone; asked for few, so looked up late."""
        if pid not in self._uids:
            self._uids[pid] = procfs.real_uid(pid)
        return self._uids[pid]

    def members(self, target: Target, strays: frozenset[int] = frozenset()) -> dict[int, procfs.Stat]:
        """Return the living processes of `target`. `strays` are orphans that can belong to nobody else of its user."""
        sure = self._limited.get(target.limit, set()) | self._leader(target)
        found = {pid for pid in sure if self._may_be(pid, target, marked=True)}
        found |= self._below(found, target)
        sessions = {self.seen[pid].stat.session for pid in found} - {os.getsid(0), 0}
        hinted = self._marked.get(target.mark, set()).union(*(self._sessions[number] for number in sessions))
        hinted |= strays & self.seen.keys()
        found |= {pid for pid in hinted - found if self._may_be(pid, target, marked=False)}
        found |= self._below(found, target)
        return {pid: self.seen[pid].stat for pid in found}

    def _leader(self, target: Target) -> set[int]:
        leader = target.leader
        if leader is None or leader.pid not in self.seen:
            return set()
        return {leader.pid} if self.seen[leader.pid].stat.start_ticks == leader.start_ticks else set()

    def _may_be(self, pid: int, target: Target, *, marked: bool) -> bool:
        uid = self.real_uid(pid)
        if target.uid is None:
            return marked
        return uid == target.uid or (marked and uid == 0)

    def _below(self, roots: set[int], target: Target) -> set[int]:
        """Return the descendants of `roots`. Those of other users (sudo -u) count if they carry the limit as well."""
        found: set[int] = set()
        waiting = list(roots)
        while waiting:
            for pid in self._children.get(waiting.pop(), ()):
                if pid in roots or pid in found:
                    continue
                if self.seen[pid].limit == target.limit or self._may_be(pid, target, marked=False):
                    found.add(pid)
                    waiting.append(pid)
        return found


def take_snapshot(known_limits: Container[int | None] = ()) -> Snapshot:
    """Return what runs now. Takes some 70 µs per process. Raises OSError if looking failed.

    Processes that carry one of `known_limits` are not asked for their other mark.
    """
    snapshot = Snapshot()
    for one in _look(known_limits):
        if one is not None:
            snapshot.add(one)
    return snapshot


class RecentSnapshot:
    """A snapshot for many questions in a row."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._taken_at = 0.0

    def get(self, known_limits: Container[int | None] = ()) -> Snapshot:
        """Return what ran half a second ago at most. Raises OSError."""
        if self._snapshot is None or time.monotonic() - self._taken_at > _FRESH_S:
            self._snapshot, self._taken_at = take_snapshot(known_limits), time.monotonic()
        return self._snapshot

    def forget(self) -> None:
        """Look anew at the next question."""
        self._snapshot = None


async def take_snapshot_gently(known_limits: Container[int | None] = (), since: int = 0) -> Snapshot:
    """Do as `take_snapshot` does, without holding up the event loop; processes older than `since` do not matter."""
    snapshot = Snapshot()
    for number, one in enumerate(_look(known_limits, since), 1):
        if one is not None:
            snapshot.add(one)
        if number % _BREATH == 0:
            await asyncio.sleep(0)
    return snapshot


def _look(known_limits: Container[int | None], since: int = 0) -> Iterator[Seen | None]:
    """Yield one process after the other, None for those that do not matter."""
    own = os.getpid()
    for pid in procfs.pids():
        stat = procfs.stat(pid)
        if stat is None or stat.gone or stat.is_kernel_thread or pid in (1, own) or stat.start_ticks < since:
            yield None
            continue
        limit = procfs.realtime_limit(pid)
        yield Seen(stat, limit, None if limit in known_limits else procfs.environment_mark(pid))
