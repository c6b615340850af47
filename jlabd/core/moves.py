"""The moves that all of the machine's answers are made of: entering a state, spawning, ending, judging a failure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jlabd.core.actions import Action, KillTree, SignalServer, Spawn
from jlabd.core.restart import decide
from jlabd.core.state import PATIENCE_S, SERVING, Actual, Desired, Failure, Front, Instance
from jlabd.spec import InstanceSpec

Step = tuple[Instance, tuple[Action, ...]]

LONG_S = 10.0
"""An interval that may be half a second longer or shorter."""

_NOTHING_AWAITED: dict[str, Any] = {
    "deadline": None,
    "probe_at": None,
    "stable_at": None,
    "probe_failures": 0,
    "failure": None,
    "going_idle": False,
    "check_at": None,
    "sleep_at": None,
    "visited_at": None,
}


def enter(instance: Instance, actual: Actual, reason: str, now: float, **changes: Any) -> Instance:
    """Enter a state: nothing that the last one waited for is left over.

    On the way from one state of rest or service to another, who has answered visitors goes on with it, and who has not
    begins when they have waited for PATIENCE_S.
    """
    after = replace(instance, actual=actual, reason=reason, since=now, **(_NOTHING_AWAITED | changes))
    if after.actual in SERVING or after.rests_openly:
        return replace(after, ushering=False, usher_at=None)
    if instance.front is not Front.LAB:
        return replace(after, ushering=True, usher_at=None)
    return replace(after, usher_at=now + PATIENCE_S if instance.usher_at is None else instance.usher_at)


def spawn(spec: InstanceSpec, instance: Instance, reason: str, now: float) -> Step:
    """Begin the next incarnation; nothing of the last one may live."""
    number = instance.incarnation + 1
    begun = replace(
        instance,
        incarnation=number,
        ready_at=None,
        pid=None,
        active_at=None,
        activity_mark=None,
        memory_kills=0,
    )
    deadline = now + spec.probe.ready_timeout_s
    after = enter(begun, Actual.STARTING, reason, now, deadline=deadline, visited_at=instance.visited_at)
    return after, (Spawn(number),)


def end(
    spec: InstanceSpec,
    instance: Instance,
    reason: str,
    now: float,
    failure: Failure | None = None,
    *,
    going_idle: bool = False,
) -> Step:
    """End a living incarnation: ask the server, kill the tree if it takes too long; without a server, kill at once."""
    after = enter(instance, Actual.STOPPING, reason, now, failure=failure, going_idle=going_idle)
    if instance.pid is None:
        return after, (KillTree(instance.incarnation),)
    signal = SignalServer(instance.incarnation, spec.stop.signal)
    return replace(after, deadline=now + spec.stop.timeout_s), (signal,)


def kill(instance: Instance) -> Step:
    """End what is left of an incarnation, now."""
    return replace(instance, deadline=None), (KillTree(instance.incarnation),)


def judge(spec: InstanceSpec, instance: Instance, failure: Failure, jitter: float, now: float) -> Step:
    """Go on after `failure` as the restart policy says; nothing of the incarnation lives any more."""
    decision = decide(spec.restart, failure, instance.failures, jitter)
    counted = replace(instance, failures=decision.failures)
    match decision.to:
        case Actual.STARTING:
            return spawn(spec, replace(counted, restarts=counted.restarts + 1), decision.reason, now)
        case Actual.BACKOFF:
            return enter(counted, Actual.BACKOFF, decision.reason, now, deadline=now + decision.delay_s), ()
        case Actual.STOPPED:
            stopped = replace(counted, desired=Desired.STOPPED)
            return enter(stopped, Actual.STOPPED, decision.reason, now), ()
        case _:
            return enter(counted, Actual.FAILED, decision.reason, now), ()


def regular(now: float, interval_s: float) -> float:
    """Return when what is done every `interval_s` is due next: with a long one at a whole second of the clock.

    So that what hundreds of instances want is done together: what costs most is that the daemon is woken.
    """
    return float(round(now + interval_s)) if interval_s >= LONG_S else now + interval_s


def ready_for(instance: Instance, now: float) -> float | None:
    """Return how long the incarnation has been ready, None if it never was."""
    return None if instance.ready_at is None else now - instance.ready_at
