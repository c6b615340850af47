"""What the files of cgroups announce by themselves: that one is empty, that memory ran out in one.

They announce it as “urgent” (EPOLLPRI). asyncio knows only readable and writable, so an epoll of our own hangs in its
loop.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from jlabd.processes import cgroup
from jlabd.processes.tree import MemoryKill

_JUST_NOW_S = 2.0
"""A process that died by SIGKILL so soon after the kernel had killed one for memory is taken for that one; and a kill
so soon after the cgroup had reached its limit is taken for the consequence."""
_COUNTS = re.compile(r"^(\w+) (\d+)$", re.MULTILINE)


class EventsWatch:
    """Watches open files of cgroups for changes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._watchers: dict[int, Callable[[], None]] = {}
        self._loop.add_reader(self._epoll.fileno(), self._dispatch)

    def close(self) -> None:
        """Watch no more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def watch(self, descriptor: int, changed: Callable[[], None]) -> None:
        """Have `changed` called at each change of the open file, until `unwatch`. Raises OSError."""
        self._epoll.register(descriptor, select.EPOLLPRI)
        self._watchers[descriptor] = changed

    def unwatch(self, descriptor: int) -> None:
        """End what `watch` began; to be called before the file is closed."""
        if self._watchers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    async def emptied(self, events: int, timeout: float) -> bool:
        """Wait until the cgroup of this open cgroup.events is empty, `timeout` seconds at most; say whether it is."""
        changed = asyncio.Event()
        self.watch(events, changed.set)
        try:
            async with asyncio.timeout(timeout):
                while cgroup.is_populated(events):
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            return False
        finally:
            self.unwatch(events)
        return True

    def _dispatch(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            changed = self._watchers.get(descriptor)
            if changed is None:  # not wanted any more since a moment ago
                continue
            try:
                os.pread(descriptor, 4096, 0)  # reading is what marks the change as seen
            except OSError:  # the cgroup is gone: its files would announce that for ever
                self.unwatch(descriptor)
            changed()


@dataclass(slots=True)
class _Leaf:
    """One cgroup that is watched, and what it had counted when last looked at."""

    folder: str
    events: int
    """Its open memory.events."""
    counted: dict[str, int] = field(default_factory=dict)
    full_at: float = float("-inf")
    """When it was last seen that its limit left the kernel no choice. A look may see that before the kill."""


class MemoryWatch:
    """Notices that the kernel killed processes because memory ran out, and tells of it."""

    def __init__(self, watch: EventsWatch, tell: Callable[[MemoryKill], None]) -> None:
        self._watch = watch
        self._tell = tell
        self._leaves: dict[str, _Leaf] = {}
        self._last: dict[str, tuple[float, MemoryKill]] = {}
        self.totals: dict[str, int] = {}
        """Processes killed, by instance, since this daemon began."""

    def follow(self, name: str, folder: str) -> None:
        """Watch the leaf of an instance from now on; nothing happens without the memory controller. Raises OSError."""
        self.leave(name)
        try:
            events = os.open(f"{folder}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            self._watch.watch(events, lambda: self.look(name))
        except OSError:
            os.close(events)
            raise
        self._leaves[name] = _Leaf(folder, events, _counts(events))

    def leave(self, name: str) -> None:
        """Watch the leaf of an instance no longer; what happened in it until now is told."""
        self.look(name)
        self._let_go(name)

    def close(self) -> None:
        """Watch nothing any more, and tell nobody."""
        for name in list(self._leaves):
            self._let_go(name)

    def _let_go(self, name: str) -> None:
        leaf = self._leaves.pop(name, None)
        if leaf is not None:
            self._watch.unwatch(leaf.events)
            os.close(leaf.events)

    def look(self, name: str) -> None:
        """Tell of processes that were killed since the last look."""
        leaf = self._leaves.get(name)
        if leaf is None:
            return
        before, leaf.counted = leaf.counted, _counts(leaf.events) or leaf.counted
        news = {key: count - before.get(key, 0) for key, count in leaf.counted.items()}
        if news.get("oom", 0) > 0:
            leaf.full_at = time.monotonic()
        if news.get("oom_kill", 0) > 0:
            own = time.monotonic() - leaf.full_at < _JUST_NOW_S
            self._note(MemoryKill(name, news["oom_kill"], cgroup.memory_limit(leaf.folder) if own else None))

    def just_now(self, name: str) -> MemoryKill | None:
        """Return the last kill in the instance if it happened within the last moments."""
        self.look(name)
        at, kill = self._last.get(name, (float("-inf"), None))
        return kill if time.monotonic() - at < _JUST_NOW_S else None

    def _note(self, kill: MemoryKill) -> None:
        self._last[kill.instance] = time.monotonic(), kill
        self.totals[kill.instance] = self.totals.get(kill.instance, 0) + kill.processes
        self._tell(kill)


def _counts(events: int) -> dict[str, int]:
    """Return what memory.events has counted; nothing if the cgroup is gone."""
    try:
        text = os.pread(events, 4096, 0).decode()
    except OSError:
        return {}
    return {key: int(count) for key, count in _COUNTS.findall(text)}
