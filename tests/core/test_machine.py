"""The machine, event by event. No clock, no asyncio: `now` is a literal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rig.lives import (
    BACKOFF,
    CRASHED,
    FAILED,
    READY,
    RESTARTING,
    SPAWNED,
    SPEC,
    STARTING,
    STOPPED,
    STOPPING,
    UNHEALTHY,
    after,
)

from jlabd.core.actions import KillTree, Probe, SignalServer, Spawn, StandIn, Usher
from jlabd.core.events import (
    Added,
    Exited,
    MemoryRanOut,
    ProbeFailed,
    ProbeSucceeded,
    RestartRequested,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    TimePassed,
    TreeEmptied,
)
from jlabd.core.machine import step
from jlabd.core.state import PATIENCE_S, Actual, Desired, Failure, Front
from jlabd.spec import Restart


def test_added_with_autostart_spawns():
    """An instance that is to run is spawned at once."""
    instance, actions = after(*STARTING)
    assert (instance.desired, instance.actual, instance.incarnation) == (Desired.RUNNING, Actual.STARTING, 1)
    assert actions == (Spawn(1),)


def test_added_without_autostart_stands_in():
    """An instance that is not to run has the daemon answer for it."""
    instance, actions = after((0.0, Added(start=False)))
    assert (instance.actual, instance.reason) == (Actual.STOPPED, "not started: autostart is off")
    assert actions == (StandIn(),)


def test_spawned_is_probed_until_the_ready_timeout():
    """One probe waits as long as the server may take."""
    instance, actions = after(*SPAWNED)
    assert (instance.pid, instance.deadline) == (77, 60.1)
    assert actions == (Probe(1, 60),)


def test_answer_makes_ready():
    """Only an answer makes an instance ready; it says how long that took."""
    instance, actions = after(*READY)
    assert (instance.actual, instance.reason, instance.ready_at) == (Actual.READY, "ready after 3.0 s", 3.0)
    assert (instance.deadline, instance.probe_at, instance.stable_at) == (None, 33.0, 123.0)
    assert actions == ()


def test_wrong_answer_while_starting_is_asked_again():
    """A server that starts may answer wrongly at first."""
    instance, actions = after(*SPAWNED, (2.0, ProbeFailed(1, "HTTP 500")))
    assert (instance.actual, instance.reason) == (Actual.STARTING, "starting, not ready yet: HTTP 500")
    assert (instance.probe_at, actions) == (2.2, ())
    instance, actions = step(SPEC, instance, TimePassed(), 2.2)
    assert actions == (Probe(1, pytest.approx(57.9)),)
    assert instance.probe_at is None


@pytest.mark.parametrize(("now", "again"), [(3.0, 3.2), (4.0, 4.2), (40.0, 42.0), (59.0, 61.95)])
def test_long_starts_are_asked_less_often(now, again):
    """Readiness is seen at most a twentieth of the start late."""
    assert after(*SPAWNED, (now, ProbeFailed(1, "HTTP 500")))[0].probe_at == pytest.approx(again)


def test_never_ready_is_a_failure():
    """A server that never answers is ended at the ready timeout, and that counts."""
    instance, actions = after(*SPAWNED, (60.1, TimePassed()))
    assert (instance.actual, instance.failure) == (Actual.STOPPING, Failure("not ready within 60 s"))
    assert actions == (SignalServer(1, 15),)


def test_spawn_that_hangs_is_killed_at_the_ready_timeout():
    """Without a server there is nobody to signal: what there is of the tree is killed."""
    instance, actions = after(*STARTING, (60.0, TimePassed()))
    assert (instance.actual, actions) == (Actual.STOPPING, (KillTree(1),))


def test_ready_is_probed_at_the_interval():
    """A ready server is probed again and again, at whole seconds, and an answer changes nothing."""
    instance, actions = after(*READY, (33.0, TimePassed()))
    assert (instance.probe_at, actions) == (None, (Probe(1, 5),))
    instance, actions = step(SPEC, instance, ProbeSucceeded(1), 33.1)
    assert (instance.actual, instance.since, instance.probe_at, actions) == (Actual.READY, 3.0, 63.0, ())


def test_interval_zero_turns_health_probes_off():
    """health.interval = 0 means that a ready server is left alone."""
    spec = replace(SPEC, probe=replace(SPEC.probe, interval_s=0))
    instance, _ = after(*READY, spec=spec)
    assert instance.probe_at is None


def test_failed_probe_makes_unhealthy_and_an_answer_heals():
    """One lost probe is shown and forgotten."""
    instance, actions = after(*UNHEALTHY)
    assert (instance.actual, instance.reason) == (Actual.UNHEALTHY, "no answer (1 of 3 times in a row)")
    assert (instance.probe_at, actions) == (63.0, ())
    instance, actions = step(SPEC, instance, ProbeSucceeded(1), 63.1)
    assert (instance.actual, instance.reason, instance.probe_failures) == (Actual.READY, "answers again", 0)
    assert (instance.stable_at, actions) == (123.0, ())


def test_unhealthy_since_stays_at_the_first_failure():
    """`since` is when the trouble began."""
    instance, _ = after(*UNHEALTHY, (68.0, ProbeFailed(1, "no answer")))
    assert (instance.since, instance.reason) == (33.0, "no answer (2 of 3 times in a row)")


def test_hung_server_is_ended():
    """The last failure allowed in a row ends the incarnation."""
    instance, actions = after(*UNHEALTHY, (68.0, ProbeFailed(1, "no answer")), (103.0, ProbeFailed(1, "no answer")))
    assert (instance.actual, actions) == (Actual.STOPPING, (SignalServer(1, 15),))
    assert instance.failure == Failure("no answer (3 of 3 times in a row)", ready_for_s=100.0)


def test_stop_signals_the_server_then_kills_the_tree():
    """The server has stop.timeout to end, then everything is killed; only an empty tree is stopped."""
    instance, actions = after(*STOPPING)
    assert (instance.desired, instance.actual, instance.deadline) == (Desired.STOPPED, Actual.STOPPING, 25.0)
    assert actions == (SignalServer(1, 15),)
    instance, actions = step(SPEC, instance, TimePassed(), 25.0)
    assert (instance.actual, instance.deadline, actions) == (Actual.STOPPING, None, (KillTree(1),))
    instance, actions = step(SPEC, instance, TreeEmptied(1), 25.1)
    assert (instance.actual, instance.pid, instance.reason) == (Actual.STOPPED, None, "by root")
    assert actions == (StandIn(),)


def test_stop_kills_the_rest_as_soon_as_the_server_is_gone():
    """What the server left behind is not waited for."""
    instance, actions = after(*STOPPING, (11.0, Exited(1, "exited with status 0", clean=True)))
    assert (instance.actual, instance.pid, instance.deadline) == (Actual.STOPPING, None, None)
    assert actions == (KillTree(1),)


def test_second_stop_escalates():
    """A second stop means now."""
    instance, actions = after(*STOPPING, (11.0, StopRequested("by root")))
    assert (instance.actual, instance.deadline, actions) == (Actual.STOPPING, None, (KillTree(1),))


def test_stop_during_a_restart_makes_it_a_stop():
    """The first stop during a restart takes back the start, and does not escalate."""
    instance, actions = after(*RESTARTING, (11.0, StopRequested("by eve")))
    assert (instance.desired, instance.reason, actions) == (Desired.STOPPED, "by eve", ())


def test_stop_of_stopped_changes_nothing():
    """Stopping what is stopped is done already."""
    before, _ = after(*STOPPED)
    assert step(SPEC, before, StopRequested(), 20.0) == (before, ())


@pytest.mark.parametrize("state", [BACKOFF, FAILED])
def test_stop_at_rest_is_immediate(state):
    """Stop during a backoff needs nobody's answer, and nothing is spawned later."""
    instance, _ = after(*state, (11.0, StopRequested("by root")))
    assert (instance.actual, instance.desired, instance.next_deadline()) == (Actual.STOPPED, Desired.STOPPED, None)


def test_stop_while_the_spawn_is_in_flight():
    """The spawn is called off; a late Spawned or SpawnFailed changes nothing."""
    instance, actions = after(*STARTING, (0.05, StopRequested("by root")))
    assert (instance.actual, actions) == (Actual.STOPPING, (KillTree(1),))
    assert step(SPEC, instance, Spawned(1, 77), 0.06) == (instance, ())
    assert step(SPEC, instance, SpawnFailed(1, "called off", permanent=False), 0.06) == (instance, ())
    assert step(SPEC, instance, ProbeFailed(1, "gone"), 0.06) == (instance, ())
    assert step(SPEC, instance, ProbeSucceeded(1), 0.06) == (instance, ())
    instance, _ = step(SPEC, instance, TreeEmptied(1), 0.07)
    assert instance.actual is Actual.STOPPED


@pytest.mark.parametrize("state", [BACKOFF, FAILED, STOPPED])
@pytest.mark.parametrize("request_", [StartRequested("by root"), RestartRequested("by root")])
def test_start_and_restart_at_rest_spawn(state, request_):
    """Both start what does not run, with a clean slate."""
    instance, actions = after(*state, (20.0, request_))
    assert (instance.actual, instance.failures, instance.reason) == (Actual.STARTING, 0, "by root")
    assert Spawn(instance.incarnation) in actions


def test_start_of_running_changes_nothing():
    """Starting what runs is done already."""
    before, _ = after(*READY)
    assert step(SPEC, before, StartRequested(), 20.0) == (before, ())


@pytest.mark.parametrize("request_", [StartRequested("by eve"), RestartRequested("by eve")])
def test_start_while_stopping_comes_back_without_a_failure(request_):
    """A start asked for while stopping is not a failure: the next incarnation comes when the tree is empty."""
    instance, actions = after(*STOPPING, (11.0, request_))
    assert (instance.desired, instance.actual, actions) == (Desired.RUNNING, Actual.STOPPING, ())
    instance, actions = step(SPEC, instance, TreeEmptied(1), 12.0)
    assert (instance.actual, instance.incarnation, instance.failures, instance.restarts) == (Actual.STARTING, 2, 0, 0)
    assert actions == (Spawn(2),)


def test_restart_ends_and_spawns():
    """A restart that was asked for never counts."""
    instance, actions = after(*RESTARTING)
    assert (instance.desired, instance.actual, actions) == (Desired.RUNNING, Actual.STOPPING, (SignalServer(1, 15),))
    instance, actions = after(*RESTARTING, (11.0, Exited(1, "exited with status 1")), (11.1, TreeEmptied(1)))
    assert (instance.actual, instance.failures, instance.restarts, instance.reason) == (
        Actual.STARTING,
        0,
        0,
        "by root",
    )
    assert actions == (Spawn(2),)


def test_crash_kills_what_is_left_and_backs_off():
    """After a crash nothing of the old incarnation lives before the next is spawned."""
    instance, actions = after(*CRASHED)
    assert (instance.actual, instance.pid, actions) == (Actual.STOPPING, None, (KillTree(1),))
    instance, actions = after(*BACKOFF)
    assert (instance.actual, instance.failures, instance.deadline) == (Actual.BACKOFF, 1, 11.25)
    assert actions == ()
    instance, actions = step(SPEC, instance, TimePassed(), 11.25)
    assert (instance.actual, instance.restarts, actions) == (Actual.STARTING, 1, (Spawn(2),))


def test_long_backoff_is_answered_by_the_daemon():
    """Visitors wait through a short backoff and are told about a long one."""
    spec = replace(SPEC, restart=replace(SPEC.restart, initial_s=40))
    instance, actions = after(*BACKOFF, spec=spec)
    assert (instance.deadline, actions) == (40.5, (StandIn(),))
    _, actions = step(spec, instance, TimePassed(), 40.5)
    assert actions == (Usher(), Spawn(2))


def test_who_has_waited_long_is_told():
    """Visitors wait for a start as long as is bearable; then they are told how it stands, and so is who comes after."""
    instance, _ = after(*SPAWNED)
    assert (instance.front, instance.usher_at) == (Front.LAB, PATIENCE_S)
    instance, actions = step(SPEC, instance, TimePassed(), PATIENCE_S)
    assert (instance.front, instance.usher_at) == (Front.USHER, None)
    assert Usher() in actions


def test_crash_of_a_stable_server_restarts_at_once():
    """Backoff is for crash loops."""
    instance, actions = after(*READY, (123.0, TimePassed()), (500.0, Exited(1, "crashed")), (500.1, TreeEmptied(1)))
    assert (instance.actual, instance.restarts, instance.failures) == (Actual.STARTING, 1, 1)
    assert actions == (Spawn(2),)


def test_stability_forgets_failures():
    """After stable_after of ready the failures in a row are 0, and the probe due at the same time is not lost."""
    instance, _ = after(*BACKOFF, (11.25, TimePassed()), (11.3, Spawned(2, 78)), (14.0, ProbeSucceeded(2)))
    assert instance.failures == 1
    instance, actions = step(SPEC, instance, TimePassed(), 134.0)
    assert (instance.failures, instance.stable_at, actions) == (0, None, (Probe(2, 5),))


def test_time_that_is_not_due_changes_nothing():
    """A timer that fires early is harmless."""
    before, _ = after(*READY)
    assert step(SPEC, before, TimePassed(), 4.0) == (before, ())


def test_spawn_failure_backs_off():
    """A fork that failed for want of resources is tried again later."""
    instance, _ = after(*STARTING, (0.1, SpawnFailed(1, "out of descriptors", permanent=False, jitter=0.0)))
    assert (instance.actual, instance.deadline) == (Actual.BACKOFF, 0.6)


def test_permanent_spawn_failure_is_failed():
    """Trying again without a change is useless: the daemon answers and says why."""
    instance, actions = after(*FAILED)
    assert (instance.desired, instance.actual, instance.reason) == (Desired.RUNNING, Actual.FAILED, "no user 'alice'")
    assert actions == (StandIn(),)


def test_launcher_that_says_why_is_failed():
    """A program that says that trying again is useless is believed."""
    said = Exited(1, "JupyterLab is not installed in /opt/x", permanent=True)
    instance, _ = after(*SPAWNED, (0.5, said), (0.6, TreeEmptied(1)))
    assert (instance.actual, instance.reason) == (Actual.FAILED, "JupyterLab is not installed in /opt/x")


def test_clean_exit_under_on_failure_is_stopped():
    """A clean exit that the policy does not restart is what the operator wanted: desired follows."""
    spec = replace(SPEC, restart=replace(SPEC.restart, policy=Restart.ON_FAILURE))
    instance, _ = after(*READY, (9.0, Exited(1, "exited with status 0", clean=True)), (9.1, TreeEmptied(1)), spec=spec)
    assert (instance.desired, instance.actual) == (Desired.STOPPED, Actual.STOPPED)
    assert instance.reason == "exited with status 0; the restart policy is on-failure"


@pytest.mark.parametrize(
    "event",
    [Spawned(1, 5), SpawnFailed(1, "x", permanent=True), Exited(1, "x"), TreeEmptied(1), ProbeFailed(1, "x")],
)
def test_events_of_an_earlier_incarnation_are_dropped(event):
    """What an old process does is nobody's business any more."""
    before, _ = after(*RESTARTING, (11.0, TreeEmptied(1)))
    assert before.incarnation == 2
    assert step(SPEC, before, event, 12.0) == (before, ())


@pytest.mark.parametrize("event", [Exited(1, "x"), TreeEmptied(1), ProbeFailed(1, "x")])
def test_late_events_at_rest_change_nothing(event):
    """Nothing is left to end once the tree was empty."""
    before, _ = after(*STOPPED)
    assert step(SPEC, before, event, 12.0) == (before, ())


def test_tree_emptied_before_anything_was_ended_changes_nothing():
    """Only a tree that was to be killed can have been emptied."""
    before, _ = after(*READY)
    assert step(SPEC, before, TreeEmptied(1), 12.0) == (before, ())


KILLED = "killed by the kernel: memory limit 2 GiB"


@pytest.mark.parametrize("life", [SPAWNED, READY, UNHEALTHY])
def test_a_server_that_outlives_others_says_so(life):
    """Processes that the kernel killed for want of memory are counted and told, and the server goes on."""
    before, _ = after(*life)
    once, actions = step(SPEC, before, MemoryRanOut(1, 1, KILLED), 40.0)
    assert (once.reason, actions) == (f"a process of it was {KILLED}", ())
    assert once == replace(before, memory_kills=1, reason=once.reason)
    more, _ = step(SPEC, once, MemoryRanOut(1, 2, KILLED), 41.0)
    assert (more.reason, more.memory_kills) == (f"3 processes of it were {KILLED}", 3)


def test_what_memory_costs_while_stopping_changes_no_reason():
    """Whoever asked for the stop is told why it stops; the next incarnation begins to count anew."""
    stopping, _ = after(*RESTARTING, (10.1, MemoryRanOut(1, 1, KILLED)))
    assert (stopping.reason, stopping.memory_kills) == ("by root", 1)
    begun, _ = step(SPEC, stopping, TreeEmptied(1), 11.0)
    assert (begun.incarnation, begun.memory_kills) == (2, 0)
    assert step(SPEC, begun, MemoryRanOut(1, 1, KILLED), 12.0) == (begun, ())
