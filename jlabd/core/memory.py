"""What is remembered of an instance while no daemon runs, and what to make of it: pure.

Nothing in it is trusted to be still true: a remembered pid counts only if its whole identity is alive, and a server
that nobody remembers, but that lives in the instance's tree, is taken over all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jlabd.core.state import Actual, Desired, Instance


@dataclass(frozen=True, slots=True)
class Server:
    """Who the server process was: pid and start time (clock ticks since boot), unique within one boot."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Memory:
    """One instance as its last daemon knew it. Moments are of the monotonic clock, which lasts as long as the boot."""

    desired: Desired
    actual: Actual
    reason: str
    incarnation: int
    failures: int
    restarts: int
    since: float
    ready_at: float | None
    remaining_s: float | None
    """Until the end of a backoff, when this was written: the time without a daemon does not count."""
    server: Server | None
    fields: Mapping[str, str]
    """Fingerprints of the spec that the incarnation was started with, by field."""
    active_at: float | None = None
    activity_mark: str | None = None
    """Believed only as long as the server shows the same mark (see `core.idleness`)."""
    going_idle: bool = False


def remember(instance: Instance, server: Server | None, fields: Mapping[str, str], now: float) -> Memory:
    """Return what is worth knowing of `instance` at monotonic time `now`."""
    return Memory(
        desired=instance.desired,
        actual=instance.actual,
        reason=instance.reason,
        incarnation=instance.incarnation,
        failures=instance.failures,
        restarts=instance.restarts,
        since=instance.since,
        ready_at=instance.ready_at,
        remaining_s=_remaining(instance, now),
        server=server,
        fields=fields,
        active_at=instance.active_at,
        activity_mark=instance.activity_mark,
        going_idle=instance.going_idle,
    )


def recall(memory: Memory, now: float) -> Instance:
    """Return the instance as it was, at monotonic time `now`; who its server is stays open."""
    return Instance(
        desired=memory.desired,
        actual=memory.actual,
        reason=memory.reason,
        since=min(memory.since, now),
        incarnation=memory.incarnation,
        ready_at=None if memory.ready_at is None else min(memory.ready_at, now),
        deadline=None if memory.remaining_s is None else now + memory.remaining_s,
        failures=memory.failures,
        restarts=memory.restarts,
        active_at=None if memory.active_at is None else min(memory.active_at, now),
        activity_mark=memory.activity_mark,
        going_idle=memory.going_idle,
    )


def changed_fields(memory: Memory, fields: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of fields that differ; one that either daemon did not know yet is no difference."""
    return tuple(name for name, print_ in memory.fields.items() if fields.get(name, print_) != print_)


def _remaining(instance: Instance, now: float) -> float | None:
    if instance.actual is not Actual.BACKOFF or instance.deadline is None:
        return None
    return max(0.0, instance.deadline - now)
