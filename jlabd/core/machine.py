"""The machine: `step` is the only thing that changes an instance, and it changes nothing else.

The table of states is in `core.state`. One function below answers each event; each is total over the states. Actions
come back in the order in which they are to be performed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

from jlabd.core.actions import Action, KillTree, Probe, SignalServer, Spawn, StandIn, StepAside
from jlabd.core.events import (
    Added,
    Event,
    Exited,
    ProbeFailed,
    ProbeSucceeded,
    Recovered,
    Report,
    RestartRequested,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    TimePassed,
    TreeEmptied,
)
from jlabd.core.restart import decide
from jlabd.core.state import AT_REST, SERVING, Actual, Desired, Failure, Instance
from jlabd.spec import InstanceSpec

Step = tuple[Instance, tuple[Action, ...]]

PROBE_AGAIN_S = 0.2
"""Pause before a starting server that gave a wrong answer is asked again."""


TAKEN_OVER = "taken over from an earlier jlabd"
"""Reason of an instance whose server was found running."""

NOTHING_AWAITED: dict[str, Any] = {
    "deadline": None,
    "probe_at": None,
    "stable_at": None,
    "probe_failures": 0,
    "failure": None,
}


def step(spec: InstanceSpec, instance: Instance, event: Event, now: float) -> Step:
    """Return the instance after `event` at monotonic time `now`, and what is to be done."""
    after, actions = _transition(spec, instance, event, now)
    answered = instance.daemon_answers and not isinstance(event, Added | Recovered)
    if answered and not after.daemon_answers:
        return after, (StepAside(), *actions)
    if after.daemon_answers and not answered:
        return after, (*actions, StandIn())
    return after, actions


def _transition(spec: InstanceSpec, instance: Instance, event: Event, now: float) -> Step:
    match event:
        case Added():
            return _added(spec, instance, event, now)
        case Recovered():
            return _recovered(spec, instance, event, now)
        case StartRequested():
            return _start_requested(spec, instance, event, now)
        case StopRequested():
            return _stop_requested(spec, instance, event, now)
        case RestartRequested():
            return _restart_requested(spec, instance, event, now)
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
        case _:
            assert_never(event)


# Entering the table


def _added(spec: InstanceSpec, instance: Instance, event: Added, now: float) -> Step:
    if event.start:
        return _spawn(spec, replace(instance, desired=Desired.RUNNING), "started with the daemon", now)
    return _enter(instance, Actual.STOPPED, "not started: autostart is off", now), ()


def _recovered(spec: InstanceSpec, instance: Instance, event: Recovered, now: float) -> Step:
    """Go on from what an earlier daemon left: take over a living server, clear away remains, or judge a loss."""
    if event.pid is not None:
        return _take_over(spec, replace(instance, pid=event.pid), now)
    lost = Failure("the server ended while no jlabd ran", ready_for_s=_ready_for(instance, now))
    was_up = instance.actual in SERVING | {Actual.STARTING}
    if not event.tree_empty:
        failure = lost if was_up and instance.desired is Desired.RUNNING else None
        after = _enter(instance, Actual.STOPPING, lost.reason, now, failure=failure)
        return after, (KillTree(instance.incarnation),)
    if instance.desired is Desired.STOPPED:
        return _enter(instance, Actual.STOPPED, instance.reason, now), ()
    if was_up:
        return _judge(spec, instance, lost, event.jitter, now)
    if instance.actual is Actual.BACKOFF and instance.deadline is not None:
        return instance, ()
    return _spawn(spec, instance, "started with the daemon", now)


def _take_over(spec: InstanceSpec, instance: Instance, now: float) -> Step:
    if instance.desired is Desired.STOPPED or instance.actual is Actual.STOPPING:
        return _end(spec, instance, instance.reason, now)
    if instance.actual in SERVING and instance.ready_at is not None:
        after = _enter(instance, Actual.READY, TAKEN_OVER, instance.since, probe_at=now)
        return replace(after, stable_at=instance.ready_at + spec.restart.stable_after_s), ()
    after = _enter(instance, Actual.STARTING, TAKEN_OVER, now, deadline=now + spec.probe.ready_timeout_s)
    return replace(after, ready_at=None), (Probe(instance.incarnation, spec.probe.ready_timeout_s),)


# Requests


def _start_requested(spec: InstanceSpec, instance: Instance, event: StartRequested, now: float) -> Step:
    if instance.actual in AT_REST:
        return _spawn(spec, replace(instance, desired=Desired.RUNNING, failures=0), event.reason, now)
    if instance.actual is Actual.STOPPING:
        return _come_back(instance), ()
    return instance, ()


def _restart_requested(spec: InstanceSpec, instance: Instance, event: RestartRequested, now: float) -> Step:
    if instance.actual in AT_REST:
        return _spawn(spec, replace(instance, desired=Desired.RUNNING, failures=0), event.reason, now)
    if instance.actual is Actual.STOPPING:
        return _come_back(instance), ()
    return _end(spec, replace(instance, failures=0), event.reason, now)


def _come_back(instance: Instance) -> Instance:
    """While stopping: run again as soon as nothing is left; a start asked for now is no failure."""
    return replace(instance, desired=Desired.RUNNING, failure=None, failures=0)


def _stop_requested(spec: InstanceSpec, instance: Instance, event: StopRequested, now: float) -> Step:
    stopped = replace(instance, desired=Desired.STOPPED)
    match instance.actual:
        case Actual.STOPPED:
            return stopped, ()
        case Actual.BACKOFF | Actual.FAILED | Actual.IDLE:
            return _enter(stopped, Actual.STOPPED, event.reason, now), ()
        case Actual.STOPPING if instance.desired is Desired.STOPPED:
            return _kill(instance)
        case Actual.STOPPING:
            return replace(stopped, failure=None, reason=event.reason), ()
        case Actual.STARTING | Actual.READY | Actual.UNHEALTHY:
            return _end(spec, stopped, event.reason, now)
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
    return _judge(spec, instance, Failure(event.reason, permanent=event.permanent), event.jitter, now)


def _exited(instance: Instance, event: Exited, now: float) -> Step:
    if instance.actual is Actual.STOPPING:
        return _kill(replace(instance, pid=None))
    if instance.actual not in SERVING | {Actual.STARTING}:
        return instance, ()
    failure = Failure(event.reason, event.clean, event.permanent, _ready_for(instance, now))
    after = _enter(replace(instance, pid=None), Actual.STOPPING, event.reason, now, failure=failure)
    return after, (KillTree(instance.incarnation),)


def _tree_emptied(spec: InstanceSpec, instance: Instance, event: TreeEmptied, now: float) -> Step:
    if instance.actual is not Actual.STOPPING:
        return instance, ()
    ended = replace(instance, pid=None)
    if instance.desired is Desired.STOPPED:
        return _enter(ended, Actual.STOPPED, instance.reason, now), ()
    if instance.failure is None:
        return _spawn(spec, ended, instance.reason, now)
    return _judge(spec, ended, instance.failure, event.jitter, now)


# What probes say


def _probe_succeeded(spec: InstanceSpec, instance: Instance, now: float) -> Step:
    probe_at = now + spec.probe.interval_s if spec.probe.interval_s else None
    match instance.actual:
        case Actual.STARTING:
            reason = f"ready after {now - instance.since:.1f} s"
            after = _enter(instance, Actual.READY, reason, now, probe_at=probe_at)
            return replace(after, ready_at=now, stable_at=now + spec.restart.stable_after_s), ()
        case Actual.UNHEALTHY:
            after = _enter(instance, Actual.READY, "answers again", now, probe_at=probe_at)
            return replace(after, stable_at=instance.stable_at), ()
        case Actual.READY:
            return replace(instance, probe_at=probe_at), ()
        case _:
            return instance, ()


def _probe_failed(spec: InstanceSpec, instance: Instance, event: ProbeFailed, now: float) -> Step:
    if instance.actual is Actual.STARTING:
        reason = f"starting, not ready yet: {event.reason}"
        return replace(instance, reason=reason, probe_at=now + PROBE_AGAIN_S), ()
    if instance.actual not in SERVING:
        return instance, ()
    count = instance.probe_failures + 1
    reason = f"{event.reason} ({count} of {spec.probe.failures} times in a row)"
    if count >= spec.probe.failures:
        return _end(spec, instance, reason, now, Failure(reason, ready_for_s=_ready_for(instance, now)))
    since = instance.since if instance.actual is Actual.UNHEALTHY else now
    return replace(
        instance,
        actual=Actual.UNHEALTHY,
        reason=reason,
        since=since,
        probe_failures=count,
        probe_at=now + spec.probe.interval_s,
    ), ()


# What time does


def _time_passed(spec: InstanceSpec, instance: Instance, now: float) -> Step:
    if _due(instance.deadline, now):
        return _deadline_passed(spec, instance, now)
    after, actions = instance, ()
    if _due(instance.stable_at, now):
        after = replace(after, failures=0, stable_at=None)
    if _due(instance.probe_at, now):
        return replace(after, probe_at=None), (_next_probe(spec, after, now),)
    return after, actions


def _deadline_passed(spec: InstanceSpec, instance: Instance, now: float) -> Step:
    if instance.actual is Actual.BACKOFF:
        return _spawn(spec, replace(instance, restarts=instance.restarts + 1), f"restarted: {instance.reason}", now)
    if instance.actual is Actual.STARTING:
        reason = f"not ready within {spec.probe.ready_timeout_s:g} s"
        return _end(spec, instance, reason, now, Failure(reason))
    return _kill(instance)


def _next_probe(spec: InstanceSpec, instance: Instance, now: float) -> Probe:
    """While starting one probe may wait as long as there is time: its request is answered when the server is up."""
    if instance.actual is Actual.STARTING and instance.deadline is not None:
        return Probe(instance.incarnation, instance.deadline - now)
    return Probe(instance.incarnation, spec.probe.timeout_s)


def _due(time: float | None, now: float) -> bool:
    return time is not None and time <= now


# The moves that all of these are made of


def _enter(instance: Instance, actual: Actual, reason: str, now: float, **changes: Any) -> Instance:
    """Enter a state: nothing that the last one waited for is left over."""
    fresh: dict[str, Any] = {
        "deadline": None,
        "probe_at": None,
        "stable_at": None,
        "probe_failures": 0,
        "failure": None,
    }
    return replace(instance, actual=actual, reason=reason, since=now, **(fresh | changes))


def _spawn(spec: InstanceSpec, instance: Instance, reason: str, now: float) -> Step:
    number = instance.incarnation + 1
    begun = replace(instance, incarnation=number, ready_at=None, pid=None)
    deadline = now + spec.probe.ready_timeout_s
    return _enter(begun, Actual.STARTING, reason, now, deadline=deadline), (Spawn(number),)


def _end(spec: InstanceSpec, instance: Instance, reason: str, now: float, failure: Failure | None = None) -> Step:
    """End a living incarnation: ask the server, kill the tree if it takes too long; without a server, kill at once."""
    after = _enter(instance, Actual.STOPPING, reason, now, failure=failure)
    if instance.pid is None:
        return after, (KillTree(instance.incarnation),)
    signal = SignalServer(instance.incarnation, spec.stop.signal)
    return replace(after, deadline=now + spec.stop.timeout_s), (signal,)


def _kill(instance: Instance) -> Step:
    return replace(instance, deadline=None), (KillTree(instance.incarnation),)


def _judge(spec: InstanceSpec, instance: Instance, failure: Failure, jitter: float, now: float) -> Step:
    decision = decide(spec.restart, failure, instance.failures, jitter)
    counted = replace(instance, failures=decision.failures)
    match decision.to:
        case Actual.STARTING:
            return _spawn(spec, replace(counted, restarts=counted.restarts + 1), decision.reason, now)
        case Actual.BACKOFF:
            return _enter(counted, Actual.BACKOFF, decision.reason, now, deadline=now + decision.delay_s), ()
        case Actual.STOPPED:
            stopped = replace(counted, desired=Desired.STOPPED)
            return _enter(stopped, Actual.STOPPED, decision.reason, now), ()
        case _:
            return _enter(counted, Actual.FAILED, decision.reason, now), ()


def _ready_for(instance: Instance, now: float) -> float | None:
    return None if instance.ready_at is None else now - instance.ready_at
