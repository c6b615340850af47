"""The driver in virtual time, with hand-written hands: what is asserted is elapsed virtual time, never real time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from jlabd.core.events import (
    ActivityChecked,
    Added,
    Event,
    Exited,
    ProbeSucceeded,
    Recovered,
    RestartRequested,
    Spawned,
    StartRequested,
    StopRequested,
    TreeEmptied,
    Visited,
)
from jlabd.core.state import Actual, Desired, Instance
from jlabd.daemon.driver import Driver
from jlabd.spec import IdleSpec, InstanceSpec, RestartPolicy, StopSpec, UnixListen


class VirtualTime:
    """A clock that jumps to the next thing to happen."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._alarm = 0

    def now(self) -> float:
        return self.time

    def later(self, delay: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.time + delay, next(self._numbers), call))

    def alarm_at(self, time: float, wake: Callable[[], None]) -> None:
        self._alarm += 1
        mine = self._alarm
        self.later(time - self.time, lambda: wake() if mine == self._alarm else None)

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        while self._queue and self._queue[0][0] <= end:
            self.time, _, call = heapq.heappop(self._queue)
            call()
        self.time = end


class World:
    """Hands whose servers are up after 3 s and go when asked, unless an instance's `stubborn` says otherwise."""

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.driver = Driver(self, time)
        self.alive: dict[str, int] = {}
        self.spawned: list[tuple[str, float]] = []
        self.stubborn: set[str] = set()
        self.crash_after: dict[str, float] = {}
        self.standing_in: set[str] = set()
        self.ushering: set[str] = set()
        self.marks: dict[str, str] = {}

    def spawn(self, spec: InstanceSpec, incarnation: int) -> None:
        assert spec.name not in self.alive, "two processes of one instance"
        assert spec.name not in self.standing_in
        self.alive[spec.name] = incarnation
        self.spawned.append((spec.name, self.time.time))
        self._later(0.01, spec, Spawned(incarnation, pid=4000 + incarnation))
        if spec.name in self.crash_after:
            self.time.later(self.crash_after[spec.name], lambda: self.exit(spec, incarnation))

    def exit(self, spec: InstanceSpec, incarnation: int) -> None:
        self.driver.post(spec.name, Exited(incarnation, "exited with status 1"))

    def signal_server(self, spec: InstanceSpec, incarnation: int, signal: int) -> None:
        if spec.name not in self.stubborn:
            self.time.later(1.0, lambda: self.exit(spec, incarnation))

    def kill_tree(self, spec: InstanceSpec, incarnation: int) -> None:
        self.time.later(0.02, lambda: self._gone(spec, incarnation))

    def _gone(self, spec: InstanceSpec, incarnation: int) -> None:
        if self.alive.get(spec.name) == incarnation:
            del self.alive[spec.name]
        self.driver.post(spec.name, TreeEmptied(incarnation, jitter=0.0))

    def probe(self, spec: InstanceSpec, incarnation: int, timeout_s: float) -> None:
        self._later(3.0, spec, ProbeSucceeded(incarnation))

    def stand_in(self, spec: InstanceSpec) -> None:
        self.ushering.discard(spec.name)
        self.standing_in.add(spec.name)

    def usher(self, spec: InstanceSpec) -> None:
        self.standing_in.discard(spec.name)
        self.ushering.add(spec.name)

    def step_aside(self, spec: InstanceSpec) -> None:
        self.standing_in.discard(spec.name)
        self.ushering.discard(spec.name)

    def check_activity(self, spec: InstanceSpec, incarnation: int) -> None:
        self._later(0.1, spec, ActivityChecked(incarnation, self.marks.get(spec.name)))

    def _later(self, delay: float, spec: InstanceSpec, event: Event) -> None:
        self.time.later(delay, lambda: self.driver.post(spec.name, event))


def make_spec(name: str) -> InstanceSpec:
    return InstanceSpec(
        name,
        UnixListen(f"/s/{name}"),
        stop=StopSpec(timeout_s=15),
        restart=RestartPolicy(initial_s=2, stable_after_s=60),
    )


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def world(time: VirtualTime) -> World:
    world = World(time)
    for name in ("alice", "bob"):
        world.driver.admit(make_spec(name))
        world.driver.post(name, Added(start=True))
    time.run(5)
    assert state(world, "alice") == state(world, "bob") == Actual.READY
    return world


def state(world: World, name: str) -> Actual:
    return world.driver.entry(name).instance.actual


def spawns(world: World, name: str) -> list[float]:
    return [when for who, when in world.spawned if who == name]


def test_crash_loop_backs_off_in_virtual_time(world, time):
    """Each crash waits twice as long (jitter 0 sleeps half of the formula); nothing runs meanwhile."""
    world.crash_after["alice"] = 0.5
    world.exit(make_spec("alice"), 1)
    time.run(20)
    _, *rest = spawns(world, "alice")
    waits = [later - earlier - 0.52 for earlier, later in itertools.pairwise(rest)]
    assert rest[0] == pytest.approx(1005 + 0.02 + 1)
    assert waits == pytest.approx([2, 4, 8])


def test_stop_during_backoff_spawns_nothing_later(world, time):
    """A stop during a backoff is immediate, and stays."""
    world.exit(make_spec("alice"), 1)
    time.run(0.1)
    assert state(world, "alice") is Actual.BACKOFF
    world.driver.post("alice", StopRequested())
    assert state(world, "alice") is Actual.STOPPED
    time.run(3600)
    assert len(spawns(world, "alice")) == 1


def test_twenty_restarts_make_one_process(world, time):
    """However many ask at once, one new incarnation comes."""
    for number in range(20):
        time.later(number * 0.01, lambda: world.driver.post("alice", RestartRequested()))
    time.run(10)
    assert state(world, "alice") is Actual.READY
    assert len(spawns(world, "alice")) == 2


def test_slow_stop_delays_nobody(world, time):
    """A stop that takes its whole timeout does not hold up another instance's restart."""
    world.stubborn.add("alice")
    world.driver.post("alice", StopRequested())
    world.driver.post("bob", RestartRequested())
    time.run(5)
    assert (state(world, "alice"), state(world, "bob")) == (Actual.STOPPING, Actual.READY)
    time.run(10.1)
    assert state(world, "alice") is Actual.STOPPED


def test_stop_all_takes_as_long_as_the_slowest(world, time):
    """Stops run side by side."""
    world.stubborn.update({"alice", "bob"})
    began = time.time
    done: list[float] = []
    world.driver.watch(lambda _, __, after: done.append(time.time) if after.actual is Actual.STOPPED else None)
    for name in list(world.driver):
        world.driver.post(name, StopRequested())
    time.run(100)
    assert [when - began for when in done] == pytest.approx([15.02, 15.02])


def test_new_spec_is_used_from_the_next_step_on(world, time):
    """An instance keeps running under a spec that changes only how it is supervised."""
    world.stubborn.add("alice")
    world.driver.admit(replace(make_spec("alice"), stop=StopSpec(timeout_s=2)))
    world.driver.post("alice", StopRequested())
    time.run(2.1)
    assert state(world, "alice") is Actual.STOPPED


def test_forgotten_instance_has_no_events(world, time):
    """What still happens to an instance that was removed is dropped."""
    world.driver.forget("alice")
    world.driver.post("alice", StartRequested())
    time.run(1000)
    assert list(world.driver) == ["bob"]
    assert len(world.driver) == 1
    assert "alice" not in world.driver


def test_watchers_see_each_visible_change_once(world, time):
    """Watchers are told of states, not of probes; a watcher may post."""
    seen: list[tuple[Actual, Actual]] = []

    def watcher(name: str, before: Instance, after: Instance) -> None:
        seen.append((before.actual, after.actual))
        if after.actual is Actual.STOPPED:
            world.driver.post(name, StartRequested())

    end = world.driver.watch(watcher)
    world.driver.post("alice", StopRequested())
    time.run(100)
    end()
    world.driver.post("alice", StopRequested())
    expected = [
        (Actual.READY, Actual.STOPPING),
        (Actual.STOPPING, Actual.STOPPING),
        (Actual.STOPPING, Actual.STOPPED),
        (Actual.STOPPED, Actual.STARTING),
        (Actual.STARTING, Actual.STARTING),
        (Actual.STARTING, Actual.READY),
    ]
    assert seen == expected


def test_a_recovered_backoff_comes_to_its_end(world: World) -> None:
    """An instance that enters the table in the middle of a backoff is started when that is over."""
    end = world.time.now() + 30
    world.driver.admit(make_spec("carol"), Instance(Desired.RUNNING, Actual.BACKOFF, deadline=end))
    world.driver.post("carol", Recovered(None, tree_empty=True))
    world.time.run(60)
    assert [when for name, when in world.spawned if name == "carol"] == [end]


def test_a_night_and_a_morning(world: World) -> None:
    """A lab that nobody uses sleeps after its time, not before, and the first visit wakes it."""
    began = world.time.now()
    world.driver.admit(replace(make_spec("carol"), on_demand=True, idle=IdleSpec(stop_after_s=7200)))
    world.driver.post("carol", Added(start=True))
    assert (state(world, "carol"), spawns(world, "carol")) == (Actual.IDLE, [])
    world.driver.post("carol", Visited())
    assert world.ushering == {"carol"}
    world.time.run(3600)
    world.marks["carol"] = "the last thing that she did"
    world.time.run(7000)
    assert state(world, "carol") is Actual.READY
    world.time.run(600)
    assert (state(world, "carol"), world.standing_in) == (Actual.IDLE, {"carol"})
    world.time.run(40_000)
    world.driver.post("carol", Visited())
    world.time.run(10)
    assert state(world, "carol") is Actual.READY
    assert spawns(world, "carol") == pytest.approx([began, began + 51_200])
    assert world.driver.entry("carol").instance.restarts == 0


def test_long_restart_is_ushered(world: World) -> None:
    """Visitors of a restart wait without a word for five seconds, then the daemon speaks to them."""
    world.stubborn.add("alice")
    world.driver.post("alice", RestartRequested())
    world.time.run(4.9)
    assert world.ushering == set()
    world.time.run(0.2)
    assert world.ushering == {"alice"}
    world.driver.answer_again("alice")
    world.driver.answer_again("bob")
    world.time.run(20)
    assert (state(world, "alice"), world.ushering, world.standing_in) == (Actual.READY, set(), set())
