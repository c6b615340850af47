"""Sleep: when a lab is checked, when that is announced, and what keeps it awake. `now` is a literal.

SLEEPY sleeps after 1000 s, is checked every 60 s, and announces sleep 100 s before. It became ready at 3.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from rig.lives import ASLEEP, GOING, READY, SEEN, SLEEP_ANNOUNCED, SLEEPY, SPAWNED, SPEC, STARTING, after

from jlabd.core.actions import CheckActivity, KillTree, SignalServer, Spawn, StandIn
from jlabd.core.events import (
    ActivityChecked,
    Added,
    Event,
    Exited,
    ProbeFailed,
    ProbeSucceeded,
    Reconfigured,
    RestartRequested,
    StartRequested,
    StopRequested,
    TimePassed,
    TreeEmptied,
    Visited,
)
from jlabd.core.idleness import NOTICE_S, notice_s, spoken
from jlabd.core.machine import step
from jlabd.core.state import Actual, Desired, Front, Instance
from jlabd.spec import IdleSpec, InstanceSpec

ON_DEMAND = replace(SLEEPY, on_demand=True)


def played(*timed: tuple[float, Event], spec: InstanceSpec = SLEEPY) -> Instance:
    """Return the instance after (now, event) pairs."""
    return after(*timed, spec=spec)[0]


# Checks


def test_checked_at_once_when_ready_and_then_every_minute():
    """The first look is due with readiness, the others at whole seconds; only one is under way at a time."""
    instance = played(*READY)
    assert (instance.check_at, instance.active_at) == (3.0, 3.0)
    instance, actions = step(SLEEPY, instance, TimePassed(), 3.0)
    assert (instance.check_at, actions) == (None, (CheckActivity(1),))
    assert step(SLEEPY, instance, TimePassed(), 500.0)[1] == ()
    assert step(SLEEPY, instance, ActivityChecked(1, "m"), 3.4)[0].check_at == 63.0


def test_without_stop_after_nothing_is_checked():
    """0 is never: no check is due, and the answer to one that was under way is no news."""
    instance = played(*READY, spec=SPEC)
    assert (instance.check_at, instance.active_at) == (None, None)
    assert step(SPEC, instance, ActivityChecked(1, "m"), 5.0) == (instance, ())


def test_short_time_is_checked_often_enough():
    """Ten checks at least fit into `stop_after`."""
    spec = replace(SLEEPY, idle=IdleSpec(stop_after_s=20.0))
    assert played(*READY, (4.0, ActivityChecked(1, "m")), spec=spec).check_at == 6.0


@pytest.mark.parametrize(("stop_after_s", "expected"), [(20.0, 2.0), (1000.0, 100.0), (86400.0, NOTICE_S)])
def test_notice(stop_after_s, expected):
    """Sleep is announced a tenth of the time before, but not more than five minutes."""
    assert notice_s(IdleSpec(stop_after_s=stop_after_s)) == expected


def test_last_check_comes_when_sleep_is_due():
    """Neither the announcement nor the sleep waits for the next round minute."""
    assert played(*SEEN, (880.0, ActivityChecked(1, "m"))).check_at == 903.0
    assert played(*SLEEP_ANNOUNCED, (963.0, ActivityChecked(1, "m"))).check_at == 1003.0


# What counts as activity


@pytest.mark.parametrize("mark", [None, "n"])
def test_activity_begins_anew(mark):
    """Something that goes on, or happened since the last check, counts from the moment of the check."""
    instance = played(*SEEN, (890.0, ActivityChecked(1, mark)))
    assert (instance.active_at, instance.activity_mark, instance.sleep_at) == (890.0, mark, None)
    assert instance.reason == "ready after 3.0 s"
    assert instance.check_at == 950.0


@pytest.mark.parametrize("mark", [None, "n"])
def test_activity_after_the_announcement_keeps_it_awake(mark):
    """The announcement is withdrawn, with a word."""
    instance, actions = after(*SLEEP_ANNOUNCED, (950.0, ActivityChecked(1, mark)), spec=SLEEPY)
    assert (instance.actual, instance.sleep_at, instance.active_at, actions) == (Actual.READY, None, 950.0, ())
    assert instance.reason == "stays awake: something happens in it again"


def test_one_that_works_never_sleeps():
    """A mark is no activity by itself, but none at all is: a week of None puts nobody to sleep."""
    instance = played(*SEEN)
    for minute in range(7 * 24 * 60):
        instance, actions = step(SLEEPY, instance, ActivityChecked(1, None), 60.0 * minute)
        assert (instance.actual, instance.sleep_at, actions) == (Actual.READY, None, ())


def test_the_same_mark_after_something_went_on_is_activity():
    """Of what went on without a mark only the end is known: it counts until the check that no longer sees it."""
    instance = played(*SEEN, (400.0, ActivityChecked(1, None)), (460.0, ActivityChecked(1, "m")))
    assert instance.active_at == 460.0


def test_trouble_counts_as_activity():
    """While a lab does not answer nobody knows what goes on in it: an announcement is dropped, and time begins anew."""
    instance = played(*SLEEP_ANNOUNCED, (910.0, ProbeFailed(1, "no answer")))
    assert (instance.actual, instance.check_at, instance.sleep_at) == (Actual.UNHEALTHY, None, None)
    assert step(SLEEPY, instance, ActivityChecked(1, "m"), 1100.0) == (instance, ())
    instance, _ = step(SLEEPY, instance, ProbeSucceeded(1), 1200.0)
    assert (instance.actual, instance.active_at, instance.check_at) == (Actual.READY, 1200.0, 1200.0)
    instance, _ = step(SLEEPY, instance, ActivityChecked(1, "m"), 1200.5)
    assert instance.active_at == 1200.5


# The announcement and the sleep


def test_sleep_is_announced():
    """A tenth of the time before, as a sentence that says when and why."""
    instance, actions = after(*SLEEP_ANNOUNCED, spec=SLEEPY)
    assert (instance.actual, instance.sleep_at, actions) == (Actual.READY, 1003.0, ())
    assert instance.reason == "goes to sleep in 100 s unless something happens in it: no activity for 15 min"


def test_announcement_that_comes_late_gives_the_whole_notice():
    """A check that was held up shortens nobody's notice."""
    instance = played(*SEEN, (2000.0, ActivityChecked(1, "m")))
    assert (instance.actual, instance.sleep_at, instance.check_at) == (Actual.READY, 2100.0, 2060.0)


def test_it_goes_to_sleep_upon_a_last_look():
    """The server is asked to end as for a stop, but it is still desired; no failure is counted."""
    instance, actions = after(*SLEEP_ANNOUNCED, (1003.0, TimePassed()), spec=SLEEPY)
    assert (instance.actual, actions) == (Actual.READY, (CheckActivity(1),))
    instance, actions = after(*GOING, spec=SLEEPY)
    assert (instance.desired, instance.actual, instance.going_idle) == (Desired.RUNNING, Actual.STOPPING, True)
    assert (instance.reason, instance.deadline) == ("asleep: no activity for 17 min", 1018.0)
    assert actions == (SignalServer(1, 15),)
    instance, actions = after(*ASLEEP, spec=SLEEPY)
    assert (instance.actual, instance.reason) == (Actual.IDLE, "asleep: no activity for 17 min")
    assert (instance.desired, instance.failures, instance.restarts) == (Desired.RUNNING, 0, 0)
    assert instance.next_deadline() is None
    assert actions == (StandIn(),)


def test_what_ignores_the_signal_sleeps_all_the_same():
    """A stubborn server is killed at the timeout."""
    instance, actions = after(*GOING, (1018.0, TimePassed()), spec=SLEEPY)
    assert actions == (KillTree(1),)
    assert step(SLEEPY, instance, TreeEmptied(1), 1018.1)[0].actual is Actual.IDLE


def test_a_crash_is_not_sleep():
    """A server that dies after the announcement has failed."""
    instance = played(*SLEEP_ANNOUNCED, (950.0, Exited(1, "was killed by signal 9 (SIGKILL)")), (950.1, TreeEmptied(1)))
    assert (instance.actual, instance.going_idle) == (Actual.STARTING, False)
    assert instance.restarts == 1


# Waking


def test_a_visit_wakes():
    """The first visit starts it, and is remembered for the time from click to page."""
    instance, actions = after(*ASLEEP, (5000.0, Visited()), spec=SLEEPY)
    assert (instance.actual, instance.incarnation, instance.reason) == (Actual.STARTING, 2, "woken by a visit")
    assert (instance.restarts, instance.failures, instance.visited_at) == (0, 0, 5000.0)
    assert Spawn(2) in actions
    assert instance.front is Front.USHER
    again, actions = step(SLEEPY, instance, Visited(), 5001.0)
    assert (again, actions) == (instance, ())
    ready, _ = step(SLEEPY, instance, ProbeSucceeded(2), 5004.0)
    assert ready.reason == "ready after 4.0 s; opened 4.0 s after the first visit"


def test_a_visit_while_it_is_still_going_to_sleep_wakes_too():
    """The next incarnation comes as soon as nothing of the last is left; her wait is counted from her click."""
    instance, actions = after(*GOING, (1010.0, Visited()), spec=SLEEPY)
    assert (instance.actual, instance.going_idle, instance.reason, actions) == (
        Actual.STOPPING,
        False,
        "woken by a visit",
        (),
    )
    again = step(SLEEPY, instance, Visited(), 1011.0)
    assert again == (instance, ())
    instance, actions = step(SLEEPY, instance, TreeEmptied(1), 1012.0)
    assert (instance.actual, instance.restarts, instance.visited_at) == (Actual.STARTING, 0, 1010.0)
    assert Spawn(2) in actions
    ready, _ = step(SLEEPY, instance, ProbeSucceeded(2), 1015.0)
    assert ready.reason == "ready after 3.0 s; opened 5.0 s after the first visit"


def test_a_visit_during_the_first_start_is_timed():
    """Who opens a lab that is being started waits from then on; the next incarnation has nothing to do with it."""
    instance = played(*SPAWNED, (1.0, Visited()), (3.0, ProbeSucceeded(1)))
    assert instance.reason == "ready after 3.0 s; opened 2.0 s after the first visit"
    instance = played(*SPAWNED, (1.0, Visited()), (3.0, ProbeSucceeded(1)), (9.0, RestartRequested()))
    instance, _ = step(SLEEPY, instance, TreeEmptied(1), 10.0)
    assert (instance.actual, instance.visited_at) == (Actual.STARTING, None)


@pytest.mark.parametrize("start", [StartRequested("by root"), RestartRequested("by root")])
def test_a_request_wakes(start):
    """Start and restart wake, also while it is still going to sleep."""
    instance, actions = after(*ASLEEP, (5000.0, start), spec=SLEEPY)
    assert (instance.actual, instance.reason) == (Actual.STARTING, "by root")
    assert Spawn(2) in actions
    instance = played(*GOING, (1010.0, start), (1012.0, TreeEmptied(1)))
    assert (instance.actual, instance.reason, instance.failures) == (Actual.STARTING, "by root", 0)


def test_a_stop_makes_sleep_a_stop():
    """What was stopped is not a visitor's to start, whether it slept already or was about to."""
    asleep = played(*ASLEEP, (5000.0, StopRequested("by root")))
    going = played(*GOING, (1010.0, StopRequested("by root")), (1012.0, TreeEmptied(1)))
    for instance in (asleep, going):
        assert (instance.desired, instance.actual, instance.reason) == (Desired.STOPPED, Actual.STOPPED, "by root")
        assert step(SLEEPY, instance, Visited(), 6000.0) == (instance, ())


def test_on_demand_waits_for_a_visit():
    """`on_demand` is asleep from the beginning, autostart or not."""
    for start in (True, False):
        instance, actions = after((0.0, Added(start=start)), spec=ON_DEMAND)
        assert (instance.desired, instance.actual) == (Desired.RUNNING, Actual.IDLE)
        assert (instance.reason, actions) == ("asleep: starts at the first visit", (StandIn(),))
        assert step(ON_DEMAND, instance, Visited(), 9.0)[0].actual is Actual.STARTING


# A new configuration


def test_stop_after_takes_effect_on_what_runs():
    """Time runs from when it was asked for; before that nobody looked."""
    instance, _ = step(SLEEPY, played(*READY, spec=SPEC), Reconfigured(), 5000.0)
    assert (instance.active_at, instance.check_at) == (5000.0, 5000.0)


def test_stop_after_that_is_taken_away_wakes_nobody_and_puts_nobody_to_sleep():
    """An announcement is withdrawn, with a word; the next check is not made."""
    instance, _ = step(SPEC, played(*SLEEP_ANNOUNCED), Reconfigured(), 950.0)
    assert (instance.check_at, instance.sleep_at, instance.active_at) == (None, None, None)
    assert instance.reason == "stays awake: idle.stop_after was changed"
    asleep = played(*ASLEEP)
    assert step(SPEC, asleep, Reconfigured(), 5000.0) == (asleep, ())


def test_another_stop_after_announces_anew():
    """What is known of its activity counts under the new time too, but nobody sleeps unannounced."""
    shorter = replace(SLEEPY, idle=IdleSpec(stop_after_s=100.0))
    instance, _ = step(shorter, played(*SEEN), Reconfigured(), 500.0)
    assert (instance.active_at, instance.check_at, instance.reason) == (3.0, 500.0, "ready after 3.0 s")
    instance, actions = step(shorter, instance, ActivityChecked(1, "m"), 500.1)
    assert (instance.actual, instance.sleep_at, actions) == (Actual.READY, 510.1, ())


def test_a_start_that_is_under_way_is_checked_when_it_is_ready():
    """A new configuration concerns who sleeps only when there is somebody to sleep."""
    before = played(*STARTING)
    assert step(SLEEPY, before, Reconfigured(), 0.05) == (before, ())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (90, "90 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (3600, "1 h"),
        (6900, "1 h 55 min"),
        (90000, "25 h"),
    ],
)
def test_spoken(seconds, text):
    """Times as people say them."""
    assert spoken(seconds) == text
