"""How an instance enters the table: as a new one, or as an earlier daemon left it."""

from __future__ import annotations

from dataclasses import replace

from jlabd.core.actions import KillTree, Probe
from jlabd.core.events import Added, Recovered
from jlabd.core.idleness import watch
from jlabd.core.moves import Step, end, enter, judge, ready_for, spawn
from jlabd.core.state import SERVING, Actual, Desired, Failure, Instance
from jlabd.spec import InstanceSpec

TAKEN_OVER = "taken over from an earlier jlabd"
"""Reason of an instance whose server was found running."""

NOT_STARTED = "not started: autostart is off"
"""Reason of an instance that nobody has asked for yet."""

ASLEEP = "asleep: starts at the first visit"
"""Reason of an instance with `on_demand` that nobody has visited yet."""


def added(spec: InstanceSpec, instance: Instance, event: Added, now: float) -> Step:
    """Begin with a new instance; `on_demand` decides before `autostart`."""
    if spec.on_demand or event.start:
        return _begin(spec, replace(instance, desired=Desired.RUNNING), now)
    return enter(instance, Actual.STOPPED, NOT_STARTED, now), ()


def _begin(spec: InstanceSpec, instance: Instance, now: float) -> Step:
    """Have what should run from the daemon's start on started now, or at the first visit."""
    if spec.on_demand:
        return enter(instance, Actual.IDLE, ASLEEP, now), ()
    return spawn(spec, instance, "started with the daemon", now)


def recovered(spec: InstanceSpec, instance: Instance, event: Recovered, now: float) -> Step:
    """Go on from what an earlier daemon left: take over a living server, clear away remains, or judge a loss."""
    if event.pid is not None:
        return _take_over(spec, replace(instance, pid=event.pid), now)
    lost = Failure("the server ended while no jlabd ran", ready_for_s=ready_for(instance, now))
    was_up = instance.actual in SERVING | {Actual.STARTING}
    asleep = _is_or_goes_asleep(instance)
    if not event.tree_empty:
        failure = lost if was_up and instance.desired is Desired.RUNNING else None
        reason = instance.reason if asleep else lost.reason
        after = enter(instance, Actual.STOPPING, reason, now, failure=failure, going_idle=asleep)
        return after, (KillTree(instance.incarnation),)
    if instance.desired is Desired.STOPPED:
        return enter(instance, Actual.STOPPED, instance.reason, now), ()
    if was_up:
        return judge(spec, instance, lost, event.jitter, now)
    if instance.actual is Actual.BACKOFF and instance.deadline is not None:
        return instance, ()
    if asleep:
        return enter(instance, Actual.IDLE, instance.reason, now), ()
    return _begin(spec, instance, now)


def _take_over(spec: InstanceSpec, instance: Instance, now: float) -> Step:
    if instance.desired is Desired.STOPPED or instance.actual is Actual.STOPPING:
        return end(spec, instance, instance.reason, now, going_idle=_is_or_goes_asleep(instance))
    if instance.actual in SERVING and instance.ready_at is not None:
        after = enter(instance, Actual.READY, TAKEN_OVER, instance.since, probe_at=now)
        stable_at = instance.ready_at + spec.restart.stable_after_s
        return watch(spec.idle, replace(after, stable_at=stable_at), now), ()
    after = enter(instance, Actual.STARTING, TAKEN_OVER, now, deadline=now + spec.probe.ready_timeout_s)
    return replace(after, ready_at=None, active_at=None, activity_mark=None), (
        Probe(instance.incarnation, spec.probe.ready_timeout_s),
    )


def _is_or_goes_asleep(instance: Instance) -> bool:
    return instance.desired is Desired.RUNNING and (instance.going_idle or instance.actual is Actual.IDLE)
