"""The driver: takes an event, steps the machine, has the actions performed, re-arms one timer at the earliest deadline.

Nothing else changes an instance. `post` may be called from anywhere in the event loop, also while an action is being
performed: events are taken one after the other.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from jlabd.core.actions import (
    Action,
    CheckActivity,
    KillTree,
    Probe,
    SignalServer,
    Spawn,
    StandIn,
    StepAside,
    Usher,
)
from jlabd.core.events import Event, TimePassed
from jlabd.core.machine import step
from jlabd.core.state import Front, Instance
from jlabd.spec import InstanceSpec


class Hands(Protocol):
    """What performs the actions. No method blocks or raises; answers come as events, posted by name."""

    def spawn(self, spec: InstanceSpec, incarnation: int) -> None:
        """Start the server: Spawned or SpawnFailed follows, and Exited in the end."""

    def signal_server(self, spec: InstanceSpec, incarnation: int, signal: int) -> None:
        """Signal the server process alone."""

    def kill_tree(self, spec: InstanceSpec, incarnation: int) -> None:
        """Call off a spawn that is under way and kill what there is: TreeEmptied follows."""

    def probe(self, spec: InstanceSpec, incarnation: int, timeout_s: float) -> None:
        """Ask the server: ProbeSucceeded or ProbeFailed follows."""

    def check_activity(self, spec: InstanceSpec, incarnation: int) -> None:
        """Ask the server what goes on in it: ActivityChecked follows."""

    def stand_in(self, spec: InstanceSpec) -> None:
        """Begin to answer on the instance's socket."""

    def usher(self, spec: InstanceSpec) -> None:
        """Begin to answer people on the instance's socket, and to keep other requests for the server."""

    def step_aside(self, spec: InstanceSpec) -> None:
        """Stop answering on the instance's socket."""


class Timer(Protocol):
    """A clock and an alarm, in seconds of the monotonic clock."""

    def now(self) -> float:
        """Return the time."""
        ...

    def alarm_at(self, time: float, wake: Callable[[], None]) -> None:
        """Have `wake` called at `time`; replaces the alarm set before."""


Watcher = Callable[[str, Instance, Instance], None]
"""Called with (name, before, after) when state, reason or pid of an instance changed."""


@dataclass(slots=True)
class Entry:
    """One row of the table."""

    spec: InstanceSpec
    instance: Instance


class Driver:
    """The table of instances, and the one doorway into it."""

    def __init__(self, hands: Hands, timer: Timer) -> None:
        self._hands = hands
        self._timer = timer
        self._table: dict[str, Entry] = {}
        self._inbox: deque[tuple[str, Event]] = deque()
        self._draining = False
        self._deadlines: list[tuple[float, str]] = []
        self._armed: float | None = None
        self._watchers: list[Watcher] = []

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def entry(self, name: str) -> Entry:
        """Return the row of `name`. Raises KeyError."""
        return self._table[name]

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Have `watcher` called at each visible change; return what ends that."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def admit(self, spec: InstanceSpec, instance: Instance | None = None) -> None:
        """Enter an instance into the table, or give one that is there its new spec."""
        entry = self._table.get(spec.name)
        if entry is not None:
            entry.spec = spec
            self.answer_again(spec.name)  # it may listen elsewhere now
        else:
            self._table[spec.name] = Entry(spec, instance or Instance(since=self._timer.now()))
            self._note_deadline(spec.name)
            self._arm()

    def answer_again(self, name: str) -> None:
        """Have the daemon answer for `name` anew, if it has to answer at all. Raises KeyError."""
        entry = self._table[name]
        match entry.instance.front:
            case Front.STAND_IN:
                self._hands.stand_in(entry.spec)
            case Front.USHER:
                self._hands.usher(entry.spec)
            case Front.LAB:
                pass

    def forget(self, name: str) -> None:
        """Take an instance out of the table; later events for it are dropped."""
        del self._table[name]

    def post(self, name: str, event: Event) -> None:
        """Let `event` happen to `name`; an instance that is not in the table has no events."""
        self._inbox.append((name, event))
        if self._draining:
            return
        self._draining = True
        try:
            while self._inbox:
                self._take(*self._inbox.popleft())
        finally:
            self._draining = False
        self._arm()

    def _take(self, name: str, event: Event) -> None:
        entry = self._table.get(name)
        if entry is None:
            return
        before = entry.instance
        entry.instance, actions = step(entry.spec, before, event, self._timer.now())
        if entry.instance.next_deadline() != before.next_deadline():
            self._note_deadline(name)
        for action in actions:
            self._perform(entry.spec, action)
        if _visible(before) != _visible(entry.instance):
            for watcher in tuple(self._watchers):
                watcher(name, before, entry.instance)

    def _perform(self, spec: InstanceSpec, action: Action) -> None:
        match action:
            case Spawn(incarnation):
                self._hands.spawn(spec, incarnation)
            case SignalServer(incarnation, signal):
                self._hands.signal_server(spec, incarnation, signal)
            case KillTree(incarnation):
                self._hands.kill_tree(spec, incarnation)
            case Probe(incarnation, timeout_s):
                self._hands.probe(spec, incarnation, timeout_s)
            case CheckActivity(incarnation):
                self._hands.check_activity(spec, incarnation)
            case StandIn():
                self._hands.stand_in(spec)
            case Usher():
                self._hands.usher(spec)
            case StepAside():
                self._hands.step_aside(spec)

    # One timer for all. The heap may hold times that were given up since: they wake nobody.

    def _note_deadline(self, name: str) -> None:
        deadline = self._table[name].instance.next_deadline()
        if deadline is not None:
            heapq.heappush(self._deadlines, (deadline, name))

    def _arm(self) -> None:
        while self._deadlines and not self._is_current(*self._deadlines[0]):
            heapq.heappop(self._deadlines)
        if self._deadlines and self._deadlines[0][0] != self._armed:
            self._armed = self._deadlines[0][0]
            self._timer.alarm_at(self._armed, self._wake)

    def _wake(self) -> None:
        self._armed = None
        now = self._timer.now()
        due = []
        while self._deadlines and self._deadlines[0][0] <= now:
            time, name = heapq.heappop(self._deadlines)
            if self._is_current(time, name):
                due.append(name)
        for name in due:
            self.post(name, TimePassed())
        self._arm()

    def _is_current(self, time: float, name: str) -> bool:
        entry = self._table.get(name)
        return entry is not None and entry.instance.next_deadline() == time


def _visible(instance: Instance) -> tuple[object, ...]:
    return instance.desired, instance.actual, instance.reason, instance.pid
