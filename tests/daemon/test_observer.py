"""The observer in virtual time, with hand-written eyes: who is asked, how often, and what is believed of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from rig.virtual_loop import in_virtual_time
from structlog.testing import capture_logs

from jlabd.core.events import Added, Exited, ProbeSucceeded, Recovered, Spawned, StartRequested, TreeEmptied
from jlabd.core.state import Actual, Desired, Instance
from jlabd.daemon.clock import LoopTimer
from jlabd.daemon.driver import Driver
from jlabd.daemon.observer import USAGE_SHARE, Observer
from jlabd.daemon.tasks import Tasks
from jlabd.jupyter.activity import Activity, ActivityError
from jlabd.processes.usage import Usage
from jlabd.spec import InstanceSpec, ProbeSpec, RestartPolicy, UnixListen
from jlabd.status.view import NOTHING_OBSERVED

MORNING = datetime(2026, 1, 5, 6, tzinfo=UTC)


class Place:
    """A table of labs that answer, hands that do nothing, and eyes that note when they looked."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.driver = Driver(self, LoopTimer())
        self.tasks = Tasks()
        self.observer = Observer(self.driver, self, self.tasks, spent=lambda: self.spent_s)
        self.asked: list[tuple[str, float]] = []
        self.used: list[tuple[str, float]] = []
        self.kernels = 1
        self.takes_s = 0.01
        self.usage_takes_s = 0.0
        self.spent_s = 0.0
        self.cpu_s = 0.0
        self.usage_trouble: Exception | None = None
        self.trouble: Exception | None = None

    # Eyes

    def usage(self, name: str) -> Usage:
        self.used.append((name, self.loop.time()))
        self.spent_s += self.usage_takes_s
        if self.usage_trouble is not None:
            raise self.usage_trouble
        return Usage(self.cpu_s, 1000)

    async def activity(self, spec: InstanceSpec) -> Activity:
        self.asked.append((spec.name, self.loop.time()))
        kernels = self.kernels
        if self.trouble is not None:
            raise self.trouble
        await asyncio.sleep(self.takes_s)
        return Activity(kernels, 2, MORNING)

    # Hands

    def nothing(self, *_: object) -> None:
        """Do nothing."""

    spawn = signal_server = kill_tree = probe = check_activity = stand_in = usher = step_aside = nothing

    # Lives

    def begin(self, *names: str) -> None:
        """Have labs become ready."""
        for name in names:
            self.driver.admit(InstanceSpec(name, UnixListen("/s"), probe=ProbeSpec(interval_s=0)))
            self.driver.post(name, Added(start=True))
            self.become_ready(name)

    def become_ready(self, name: str) -> None:
        number = self.driver.entry(name).instance.incarnation
        self.driver.post(name, Spawned(number, pid=100 + number))
        self.driver.post(name, ProbeSucceeded(number))

    def times(self, name: str) -> list[float]:
        return [at for who, at in self.asked if who == name]


def observed(
    scene: Callable[[Place], object],
) -> Callable[[], None]:
    """Make a test of an async `scene` that is played in virtual time while the observer observes."""

    async def play() -> None:
        place = Place()
        place.tasks.start(place.observer.observe(), "observer")
        try:
            await scene(place)  # type: ignore[misc]
        finally:
            await place.tasks.cancel_all()

    def test() -> None:
        in_virtual_time(play())

    test.__doc__ = scene.__doc__
    return test


@observed
async def test_a_lab_is_asked_as_soon_as_it_is_ready(place: Place) -> None:
    """What goes on in a lab is known a moment after it is ready, also when nobody ever looked before."""
    await asyncio.sleep(3600)
    place.begin("alice")
    assert place.observer.observation("alice") == NOTHING_OBSERVED
    await asyncio.sleep(0.02)
    seen = place.observer.observation("alice")
    assert (seen.kernels, seen.connections, seen.last_activity, seen.memory_bytes) == (1, 2, MORNING, 1000)


@observed
async def test_a_lab_that_is_taken_over_is_asked_at_once(place: Place) -> None:
    """A new daemon knows soon what goes on in the labs that it found."""
    await asyncio.sleep(3600)
    place.driver.admit(
        InstanceSpec("alice", UnixListen("/s")), Instance(Desired.RUNNING, Actual.READY, incarnation=7, ready_at=1.0)
    )
    place.driver.post("alice", Recovered(77, tree_empty=False))
    await asyncio.sleep(0.02)
    assert place.observer.observation("alice").kernels == 1


@observed
async def test_one_lab_is_asked_every_five_seconds(place: Place) -> None:
    """Nobody looks: rarely."""
    await asyncio.sleep(3600)
    place.begin("alice")
    await asyncio.sleep(100)
    gaps = [later - earlier for earlier, later in itertools.pairwise(place.times("alice")[1:])]
    assert gaps == pytest.approx([5.0] * len(gaps))
    assert len(gaps) >= 18


@observed
async def test_more_often_while_somebody_looks(place: Place) -> None:
    """Somebody who looks sees what is two seconds old at most; a quarter of a minute after the last look it ends."""
    place.begin("alice")
    await asyncio.sleep(3600)
    place.asked.clear()
    for _ in range(60):
        place.observer.observation("alice")
        await asyncio.sleep(1)
    assert 29 <= len(place.times("alice")) <= 31
    await asyncio.sleep(15)
    place.asked.clear()
    await asyncio.sleep(60)
    assert 11 <= len(place.times("alice")) <= 12


@observed
async def test_who_begins_to_look_wakes_the_observer(place: Place) -> None:
    """The second look, a moment after the first, shows what is new."""
    place.begin("alice")
    await asyncio.sleep(3601)
    place.kernels, place.cpu_s = 5, 18.0
    place.observer.observation("alice")
    await asyncio.sleep(0.05)
    seen = place.observer.observation("alice")
    assert (seen.kernels, seen.memory_bytes) == (5, 1000)
    assert seen.cpu_percent is not None
    assert seen.cpu_percent > 0


@observed
async def test_hundreds_are_asked_at_a_limited_rate(place: Place) -> None:
    """300 labs take turns: five questions a second, fifteen while somebody looks, each lab as often as the others."""
    names = [f"lab{number}" for number in range(300)]
    place.begin(*names)
    await asyncio.sleep(3600)
    place.asked.clear()
    await asyncio.sleep(600)
    assert len(place.asked) == pytest.approx(3000, rel=0.01)
    assert {len(place.times(name)) for name in names} <= {9, 10, 11}
    place.asked.clear()
    for _ in range(60):
        place.observer.observation("lab7")
        await asyncio.sleep(1)
    assert len(place.asked) == pytest.approx(900, rel=0.05)
    assert {len(place.times(name)) for name in names} <= {2, 3, 4}


@observed
async def test_who_looks_again_and_again_starves_nobody(place: Place) -> None:
    """Of a thousand labs everyone gets its turn, though somebody begins to look every twenty seconds."""
    names = [f"lab{number}" for number in range(1000)]
    place.begin(*names)
    await asyncio.sleep(100)
    place.asked.clear()
    for _ in range(10):
        place.observer.observation("lab0")
        await asyncio.sleep(20)
    assert {name for name, _ in place.asked} == set(names)


@observed
async def test_a_lab_that_hangs_holds_up_nobody(place: Place) -> None:
    """One that never answers is asked once, the others as ever; the answer of an earlier life is not believed."""
    place.begin("alice", "bob")
    await asyncio.sleep(100)
    before = place.observer.observation("alice")
    place.asked.clear()
    place.takes_s, place.kernels = 50.0, 77
    await asyncio.sleep(20)
    assert len(place.times("alice")) == 1
    place.takes_s, place.kernels = 0.01, 3
    assert place.observer.observation("alice") == before
    place.driver.post("alice", Exited(1, "exited with status 1"))
    place.driver.post("alice", TreeEmptied(1))
    place.driver.post("alice", StartRequested())
    assert place.observer.observation("alice") == NOTHING_OBSERVED
    place.become_ready("alice")
    await asyncio.sleep(0.02)
    assert place.observer.observation("alice").kernels == 3
    await asyncio.sleep(100)
    assert place.observer.observation("alice").kernels == 3


@observed
async def test_a_life_that_is_over_is_not_shown(place: Place) -> None:
    """As soon as a server has gone, so has what was seen of it; nobody takes the next one's first sight for its."""
    place.begin("alice")
    await asyncio.sleep(1)
    place.cpu_s = 500.0
    await asyncio.sleep(100)
    assert place.observer.cpu_seconds() == {"alice": 500.0}
    place.driver.post("alice", Exited(1, "exited with status 1"))
    assert place.observer.observation("alice") == NOTHING_OBSERVED
    assert place.observer.cpu_seconds() == {}
    place.driver.post("alice", TreeEmptied(1))
    place.driver.post("alice", StartRequested())
    place.cpu_s = 1.0
    place.become_ready("alice")
    await asyncio.sleep(0.02)
    assert place.observer.observation("alice").cpu_percent is None
    assert place.observer.cpu_seconds() == {"alice": 1.0}


@observed
async def test_a_removed_lab_is_forgotten(place: Place) -> None:
    """An instance that is taken out of the table while it is asked, and a later namesake, are strangers."""
    place.begin("alice")
    place.takes_s = 4.0
    await asyncio.sleep(7)
    place.driver.forget("alice")
    await asyncio.sleep(20)
    spec = InstanceSpec("alice", UnixListen("/s"), restart=RestartPolicy())
    place.driver.admit(spec)
    place.driver.post("alice", Added(start=True))
    assert place.observer.observation("alice") == NOTHING_OBSERVED


@pytest.mark.parametrize(
    ("usage_trouble", "trouble"),
    [(OSError("no"), ActivityError("no answer")), (RuntimeError("a bug"), RuntimeError("another bug"))],
)
def test_a_look_that_fails_ends_nothing(usage_trouble, trouble):
    """Whatever a look ends with, what is known stays, the others are looked at, and the next look comes in its turn."""

    async def scene(place: Place) -> None:
        place.begin("alice", "bob")
        await asyncio.sleep(100)
        known = place.observer.observation("alice")
        place.usage_trouble, place.trouble = usage_trouble, trouble
        await asyncio.sleep(100)
        assert place.observer.observation("alice") == known
        place.usage_trouble, place.trouble, place.kernels = None, None, 9
        await asyncio.sleep(100)
        assert {place.observer.observation(name).kernels for name in ("alice", "bob")} == {9}
        assert place.used[-1][1] > place.loop.time() - 61

    with capture_logs() as said:
        observed(scene)()
    bugs = {str(entry["exc_info"]) for entry in said if entry["log_level"] == "error"}
    assert bugs == {str(error) for error in (usage_trouble, trouble) if isinstance(error, RuntimeError)}


@observed
async def test_processor_time_becomes_a_share_of_a_core(place: Place) -> None:
    """Between two looks: 30 s of processor time in 60 s are half a core."""
    place.begin("alice")
    await asyncio.sleep(3600)
    at = place.used[-1][1]
    place.cpu_s = 30.0
    await asyncio.sleep(at + 60.5 - place.loop.time())
    seen = place.observer.observation("alice").cpu_percent
    assert seen == pytest.approx(50, rel=0.1)


@observed
async def test_looks_at_what_all_use_are_rarer_the_longer_they_take(place: Place) -> None:
    """While somebody looks: every three seconds if that is cheap, else so that it takes a small share of a core."""
    place.begin("alice", "bob")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while True:
                place.observer.observation("alice")
                await asyncio.sleep(0.1)
    cheap = len({at for _, at in place.used})
    assert 15 <= cheap <= 20
    place.usage_takes_s = 0.01
    place.used.clear()
    begun, spent = place.loop.time(), place.spent_s
    for _ in range(600):
        place.observer.observation("alice")
        await asyncio.sleep(1)
    assert place.spent_s - spent <= 1.2 * USAGE_SHARE * (place.loop.time() - begun)
    assert len({at for _, at in place.used}) >= 55
