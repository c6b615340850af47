"""The machine: `step` is the only thing that changes an instance, and it changes nothing else.

The table of states is in `core.state`. One function below answers each event; each is total over the states. Actions
come back in the order in which they are to be performed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from jlabd.core.actions import (
    Action,
    CheckActivity,
    KillTree,
    Probe,
    StandIn,
    StepAside,
    Usher,
)
from jlabd.core.arrival import added, recovered
from jlabd.core.events import (
    ActivityChecked,
    Added,
    Event,
    Exited,
    MemoryRanOut,
    ProbeFailed,
    ProbeSucceeded,
    Reconfigured,
    Recovered,
    Report,
    RestartRequested,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    TimePassed,
    TreeEmptied,
    Visited,
)
from jlabd.core.idleness import checked, spoken, wants_sleep, watch
from jlabd.core.moves import Step, end, enter, judge, kill, ready_for, regular, spawn
from jlabd.core.state import AT_REST, PATIENCE_S, SERVING, Actual, Desired, Failure, Front, Instance
from jlabd.spec import InstanceSpec

PROBE_AGAIN_S = 0.2
PROBE_AGAIN_SHARE = 0.05
PROBE_AGAIN_MAX_S = 5.0
"""Pause before a starting server that gave a wrong answer is asked again: a share of the time that it took already.

So its readiness is seen at most so much late, and hundreds that take long do not keep the daemon busy.
"""


def step(spec: InstanceSpec, instance: Instance, event: Event, now: float) -> Step:
    """Return the instance after `event` at monotonic time `now`, and what is to be done."""
    after, actions = _transition(spec, instance, event, now)
    before = instance.front
    if isinstance(event, Added | Recovered):  # nobody has answered for it yet
        before = Front.LAB
        after = replace(after, ushering=False, usher_at=now + PATIENCE_S) if after.ushering else after
    return after, _answered(before, after.front, actions)


def _answered(before: Front, after: Front, actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """Return the actions completed by the one that puts the right one in front, if that is another one than before."""
    if before is after:
        return actions
    match after:
        case Front.LAB:
            return (StepAside(), *actions)
        case Front.USHER:
            return (Usher(), *actions)
        case Front.STAND_IN:
            return (*actions, StandIn())
        case _:
            assert_never(after)


def _transition(spec: InstanceSpec, instance: Instance, event: Event, now: float) -> Step:
    match event:
        case Added():
            return added(spec, instance, event, now)
        case Recovered():
            return recovered(spec, instance, event, now)
        case StartRequested():
            return _start_requested(spec, instance, event, now)
        case StopRequested():
            return _stop_requested(spec, instance, event, now)
        case RestartRequested():
            return _restart_requested(spec, instance, event, now)
        case Visited():
            return _visited(spec, instance, now)
        case Reconfigured():
            return (watch(spec.idle, instance, now) if instance.actual is Actual.READY else instance), ()
        case TimePassed():
            return _time_passed(spec, instance, now)
        case _:
            return (
                _reported(spec, instance, event, now) if event.incarnation == instance.incarnation else (instance, ())
            )


def _reported(spec: InstanceSpec, instance: Instance, event: Report, now: float) -> Step:
    match event:
        case Spawned():
            return _spawned(spec, instance, event, now)
        case SpawnFailed():
            return _spawn_failed(spec, instance, event, now)
        case Exited():
            return _exited(instance, event, now)
        case TreeEmptied():
            return _tree_emptied(spec, instance, event, now)
        case ProbeSucceeded():
            return _probe_succeeded(spec, instance, now)
        case ProbeFailed():
            return _probe_failed(spec, instance, event, now)
        case ActivityChecked():
            return _activity_checked(spec, instance, event, now)
        case MemoryRanOut():
            return _memory_ran_out(instance, event), ()
        case _:
            assert_never(event)


# Requests


def _start_requested(spec: InstanceSpec, instance: Instance, event: StartRequested, now: float) -> Step:
    if instance.actual in AT_REST:
        return spawn(spec, replace(instance, desired=Desired.RUNNING, failures=0), event.reason, now)
    if instance.actual is Actual.STOPPING:
        return _come_back(instance, event.reason), ()
    return instance, ()


def _restart_requested(spec: InstanceSpec, instance: Instance, event: RestartRequested, now: float) -> Step:
    if instance.actual in AT_REST:
        return spawn(spec, replace(instance, desired=Desired.RUNNING, failures=0), event.reason, now)
    if instance.actual is Actual.STOPPING:
        return _come_back(instance, event.reason), ()
    return end(spec, replace(instance, failures=0), event.reason, now)


def _come_back(instance: Instance, reason: str) -> Instance:
    """While stopping: run again as soon as nothing is left; a start asked for now is no failure."""
    return replace(instance, desired=Desired.RUNNING, reason=reason, failure=None, failures=0, going_idle=False)


def _visited(spec: InstanceSpec, instance: Instance, now: float) -> Step:
    """Wake what sleeps, and only that: what was stopped or has failed is not a visitor's to start."""
    if instance.actual is Actual.IDLE:
        after, actions = spawn(spec, instance, "woken by a visit", now)
        return replace(after, visited_at=now), actions
    if instance.going_idle:
        return replace(instance, reason="woken by a visit", going_idle=False, visited_at=now), ()
    if instance.actual is Actual.STARTING and instance.visited_at is None:
        return replace(instance, visited_at=now), ()
    return instance, ()


def _stop_requested(spec: InstanceSpec, instance: Instance, event: StopRequested, now: float) -> Step:
    stopped = replace(instance, desired=Desired.STOPPED)
    match instance.actual:
        case Actual.STOPPED:
            return stopped, ()
        case Actual.BACKOFF | Actual.FAILED | Actual.IDLE:
            return enter(stopped, Actual.STOPPED, event.reason, now), ()
        case Actual.STOPPING if instance.desired is Desired.STOPPED:
            return kill(instance)
        case Actual.STOPPING:
            return replace(stopped, failure=None, going_idle=False, reason=event.reason), ()
        case Actual.STARTING | Actual.READY | Actual.UNHEALTHY:
            return end(spec, stopped, event.reason, now)
        case _:
            assert_never(instance.actual)


# What processes do


def _spawned(spec: InstanceSpec, instance: Instance, event: Spawned, now: float) -> Step:
    if instance.actual is not Actual.STARTING:
        return instance, ()
    after = replace(instance, pid=event.pid, deadline=now + spec.probe.ready_timeout_s)
    return after, (Probe(instance.incarnation, spec.probe.ready_timeout_s),)


def _spawn_failed(spec: InstanceSpec, instance: Instance, event: SpawnFailed, now: float) -> Step:
    if instance.actual is not Actual.STARTING:
        return instance, ()
    return judge(spec, instance, Failure(event.reason, permanent=event.permanent), event.jitter, now)


def _exited(instance: Instance, event: Exited, now: float) -> Step:
    if instance.actual is Actual.STOPPING:
        return kill(replace(instance, pid=None))
    if instance.actual not in SERVING | {Actual.STARTING}:
        return instance, ()
    failure = Failure(event.reason, event.clean, event.permanent, ready_for(instance, now))
    after = enter(replace(instance, pid=None), Actual.STOPPING, event.reason, now, failure=failure)
    return after, (KillTree(instance.incarnation),)


def _tree_emptied(spec: InstanceSpec, instance: Instance, event: TreeEmptied, now: float) -> Step:
    if instance.actual is not Actual.STOPPING:
        return instance, ()
    ended = replace(instance, pid=None)
    if instance.desired is Desired.STOPPED:
        return enter(ended, Actual.STOPPED, instance.reason, now), ()
    if instance.going_idle:
        return enter(ended, Actual.IDLE, instance.reason, now), ()
    if instance.failure is None:
        return spawn(spec, ended, instance.reason, now)
    return judge(spec, ended, instance.failure, event.jitter, now)


def _memory_ran_out(instance: Instance, event: MemoryRanOut) -> Instance:
    """Count, and say so until something else is to be said: the server may live on without them."""
    total = instance.memory_kills + event.processes
    counted = replace(instance, memory_kills=total)
    if instance.actual not in SERVING | {Actual.STARTING}:
        return counted
    who = "a process of it was" if total == 1 else f"{total} processes of it were"
    return replace(counted, reason=f"{who} {event.cause}")


# What probes say


def _probe_succeeded(spec: InstanceSpec, instance: Instance, now: float) -> Step:
    probe_at = regular(now, spec.probe.interval_s) if spec.probe.interval_s else None
    match instance.actual:
        case Actual.STARTING:
            after = enter(instance, Actual.READY, _how_fast(instance, now), now, probe_at=probe_at)
            ready = replace(after, ready_at=now, start_took_s=now - instance.since)
            return watch(spec.idle, replace(ready, stable_at=now + spec.restart.stable_after_s), now), ()
        case Actual.UNHEALTHY:
            after = enter(instance, Actual.READY, "answers again", now, probe_at=probe_at)
            # What went on in it meanwhile nobody knows.
            healed = replace(after, stable_at=instance.stable_at, active_at=None, activity_mark=None)
            return watch(spec.idle, healed, now), ()
        case Actual.READY:
            return replace(instance, probe_at=probe_at), ()
        case _:
            return instance, ()


def _how_fast(instance: Instance, now: float) -> str:
    ready = f"ready after {now - instance.since:.1f} s"
    if instance.visited_at is None:
        return ready
    return f"{ready}; opened {now - instance.visited_at:.1f} s after the first visit"


def _activity_checked(spec: InstanceSpec, instance: Instance, event: ActivityChecked, now: float) -> Step:
    """Put the server to sleep, but only upon a fresh look at it."""
    if instance.actual is not Actual.READY or not spec.idle.stop_after_s:
        return instance, ()
    after = checked(spec.idle, instance, event.mark, now)
    if wants_sleep(after, now):
        reason = f"asleep: no activity for {spoken(spec.idle.stop_after_s)}"
        return end(spec, after, reason, now, going_idle=True)
    return after, ()


def _probe_failed(spec: InstanceSpec, instance: Instance, event: ProbeFailed, now: float) -> Step:
    if instance.actual is Actual.STARTING:
        reason = f"starting, not ready yet: {event.reason}"
        return replace(instance, reason=reason, probe_at=now + _again_s(now - instance.since)), ()
    if instance.actual not in SERVING:
        return instance, ()
    count = instance.probe_failures + 1
    reason = f"{event.reason} ({count} of {spec.probe.failures} times in a row)"
    if count >= spec.probe.failures:
        return end(spec, instance, reason, now, Failure(reason, ready_for_s=ready_for(instance, now)))
    since = instance.since if instance.actual is Actual.UNHEALTHY else now
    return replace(
        instance,
        actual=Actual.UNHEALTHY,
        reason=reason,
        since=since,
        probe_failures=count,
        probe_at=regular(now, spec.probe.interval_s),
        check_at=None,
        sleep_at=None,
    ), ()


def _again_s(waited_s: float) -> float:
    return min(PROBE_AGAIN_MAX_S, max(PROBE_AGAIN_S, waited_s * PROBE_AGAIN_SHARE))


# What time does


def _time_passed(spec: InstanceSpec, instance: Instance, now: float) -> Step:
    if _due(instance.deadline, now):
        return _deadline_passed(spec, instance, now)
    after, actions = instance, list[Action]()
    if _due(instance.stable_at, now):
        after = replace(after, failures=0, stable_at=None)
    if _due(instance.usher_at, now):
        after = replace(after, ushering=True, usher_at=None)
    if _due(instance.probe_at, now):
        after = replace(after, probe_at=None)
        actions.append(_next_probe(spec, after, now))
    if _due(instance.check_at, now):
        after = replace(after, check_at=None)
        actions.append(CheckActivity(instance.incarnation))
    return after, tuple(actions)


def _deadline_passed(spec: InstanceSpec, instance: Instance, now: float) -> Step:
    if instance.actual is Actual.BACKOFF:
        return spawn(spec, replace(instance, restarts=instance.restarts + 1), f"restarted: {instance.reason}", now)
    if instance.actual is Actual.STARTING:
        reason = f"not ready within {spec.probe.ready_timeout_s:g} s"
        return end(spec, instance, reason, now, Failure(reason))
    return kill(instance)


def _next_probe(spec: InstanceSpec, instance: Instance, now: float) -> Probe:
    """While starting one probe may wait as long as there is time: its request is answered when the server is up."""
    if instance.actual is Actual.STARTING and instance.deadline is not None:
        return Probe(instance.incarnation, instance.deadline - now)
    return Probe(instance.incarnation, spec.probe.timeout_s)


def _due(time: float | None, now: float) -> bool:
    return time is not None and time <= now
