"""Recovery: what becomes of (what was remembered) x (what lives)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rig.lives import (
    ASLEEP,
    BACKOFF,
    FAILED,
    GOING,
    READY,
    RESTARTING,
    SLEEP_ANNOUNCED,
    SLEEPY,
    SPAWNED,
    SPEC,
    STOPPED,
    STOPPING,
    after,
)

from jlabd.core.actions import KillTree, Probe, SignalServer, Spawn, StandIn
from jlabd.core.events import ActivityChecked, Recovered, TreeEmptied
from jlabd.core.machine import step
from jlabd.core.memory import recall, remember
from jlabd.core.state import Actual, Desired, Failure, Instance


def recovered(before: Instance, pid: int | None, *, tree_empty: bool) -> tuple[Instance, tuple[object, ...]]:
    """Let a new daemon begin at 1000 with `before` as remembered."""
    return step(SPEC, replace(before, pid=None), Recovered(pid, tree_empty), 1000.0)


def test_living_ready_server_is_taken_over():
    """A server that lives and was ready stays ready, with all its past, and is asked at once whether it is well."""
    before, _ = after(*READY)
    instance, actions = recovered(before, 77, tree_empty=False)
    assert (instance.actual, instance.pid, instance.incarnation, instance.since) == (Actual.READY, 77, 1, 3.0)
    assert (instance.reason, instance.probe_at, instance.stable_at) == (
        "taken over from an earlier jlabd",
        1000.0,
        123.0,
    )
    assert actions == ()


@pytest.mark.parametrize("state", [SPAWNED, BACKOFF, FAILED])
def test_living_server_that_was_not_known_to_be_ready_is_probed(state):
    """Also where the memory is stale: what lives is taken over, never doubled."""
    before, _ = after(*state)
    instance, actions = recovered(before, 77, tree_empty=False)
    assert (instance.actual, instance.pid, instance.deadline) == (Actual.STARTING, 77, 1060.0)
    assert actions == (Probe(1, 60),)


@pytest.mark.parametrize("state", [STOPPING, RESTARTING])
def test_stop_that_was_under_way_goes_on(state):
    """A daemon that died in the middle of a stop does not leave the instance half stopped."""
    before, _ = after(*state)
    instance, actions = recovered(before, 77, tree_empty=False)
    assert (instance.actual, instance.desired, instance.deadline) == (Actual.STOPPING, before.desired, 1015.0)
    assert actions == (SignalServer(1, 15),)


def test_server_that_died_meanwhile_follows_the_policy():
    """A loss while nobody looked is a failure like any other; remains are killed first."""
    before, _ = after(*READY)
    instance, actions = recovered(before, None, tree_empty=False)
    assert (instance.actual, actions) == (Actual.STOPPING, (KillTree(1),))
    assert instance.failure == Failure("the server ended while no jlabd ran", ready_for_s=997.0)
    instance, actions = recovered(before, None, tree_empty=True)
    assert (instance.actual, instance.failures, actions) == (Actual.STARTING, 1, (Spawn(2),))


def test_remains_of_what_was_stopped_are_killed():
    """What should not run does not."""
    before, _ = after(*STOPPED)
    instance, actions = recovered(before, None, tree_empty=False)
    assert (instance.actual, instance.desired, actions) == (Actual.STOPPING, Desired.STOPPED, (KillTree(1),))


def test_stopped_stays_stopped():
    """A stop that was asked for survives the daemon, and the new one answers on the socket."""
    before, _ = after(*STOPPED)
    instance, actions = recovered(before, None, tree_empty=True)
    assert (instance.actual, instance.desired, actions) == (Actual.STOPPED, Desired.STOPPED, (StandIn(),))


def test_backoff_goes_on():
    """The next attempt survives the daemon."""
    before, _ = after(*BACKOFF)
    instance, actions = recovered(replace(before, since=999.5, deadline=1001.0), None, tree_empty=True)
    assert (instance.actual, instance.deadline, instance.failures, actions) == (Actual.BACKOFF, 1001.0, 1, ())


@pytest.mark.parametrize("state", [FAILED, RESTARTING])
def test_what_should_run_and_does_not_is_started(state):
    """A new daemon is a change: what had failed is tried again."""
    before, _ = after(*state)
    instance, actions = recovered(before, None, tree_empty=True)
    assert (instance.actual, instance.incarnation, actions) == (Actual.STARTING, 2, (Spawn(2),))


def test_sleep_goes_on():
    """What slept sleeps on over a crash, an upgrade and a reboot, and so does what was about to."""
    for state in (ASLEEP, GOING):
        before, _ = after(*state, spec=SLEEPY)
        instance, actions = recovered(before, None, tree_empty=True)
        assert (instance.actual, instance.desired, actions) == (Actual.IDLE, Desired.RUNNING, (StandIn(),))
        assert instance.reason == "asleep: no activity for 17 min"


def test_going_to_sleep_goes_on():
    """A server that lives is asked to end again; remains are killed; then it sleeps, and has not failed."""
    before, _ = after(*GOING, spec=SLEEPY)
    instance, actions = recovered(before, 77, tree_empty=False)
    assert (instance.actual, instance.going_idle, actions) == (Actual.STOPPING, True, (SignalServer(1, 15),))
    for state in (GOING, ASLEEP):
        before, _ = after(*state, spec=SLEEPY)
        instance, actions = recovered(before, None, tree_empty=False)
        assert (instance.actual, actions) == (Actual.STOPPING, (KillTree(1),))
        instance, actions = step(SLEEPY, instance, TreeEmptied(1), 1001.0)
        assert (instance.actual, instance.failures, actions) == (Actual.IDLE, 0, (StandIn(),))


def test_sleep_that_was_announced_is_announced_anew():
    """Quiet counts over a daemon's death if the server still shows the same mark, but nobody sleeps unannounced."""
    before, _ = after(*SLEEP_ANNOUNCED, spec=SLEEPY)
    remembered = recall(remember(before, None, {}, 950.0), 1000.0)
    instance, actions = step(SLEEPY, remembered, Recovered(77, tree_empty=False), 1000.0)
    assert (instance.actual, instance.sleep_at, instance.check_at, actions) == (Actual.READY, None, 1000.0, ())
    quiet, actions = step(SLEEPY, instance, ActivityChecked(1, "m"), 1000.1)
    assert (quiet.actual, quiet.sleep_at, actions) == (Actual.READY, 1100.1, ())
    assert quiet.reason.startswith("goes to sleep in 100 s")
    busy, _ = step(SLEEPY, instance, ActivityChecked(1, "n"), 1000.1)
    assert (busy.active_at, busy.sleep_at) == (1000.1, None)


def test_on_demand_begins_asleep_again():
    """After a reboot a lab that starts at a visit waits for one, unless it should be running right now."""
    on_demand = replace(SLEEPY, on_demand=True)
    before, _ = after(*FAILED)
    instance, actions = step(on_demand, before, Recovered(None, tree_empty=True), 1000.0)
    assert (instance.actual, actions) == (Actual.IDLE, (StandIn(),))
    before, _ = after(*READY)
    instance, _ = step(on_demand, before, Recovered(None, tree_empty=True), 1000.0)
    assert instance.actual is Actual.STARTING
