"""The status document: what `jlabctl status --json` and `/status` show, made from the daemon's values.

Pure. The only place where the monotonic clock becomes a time of day, and so the only one with dates in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from jlabd.core.state import Actual, Instance
from jlabd.spec import InstanceSpec
from jlabd.status.desired import all_as_desired

__all__ = ["NOTHING_OBSERVED", "Clock", "DaemonFacts", "Observation", "all_as_desired", "document", "instance_document"]


@dataclass(frozen=True, slots=True)
class Observation:
    """What was last seen of an instance from outside; None is not known."""

    kernels: int | None = None
    connections: int | None = None
    last_activity: datetime | None = None
    cpu_percent: float | None = None
    """Of one core: two busy cores are 200."""
    memory_bytes: int | None = None


NOTHING_OBSERVED = Observation()


AGREEMENT = timedelta(seconds=0.1)
"""How far two readings of the clocks may be apart and still be the same time of day."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Both clocks read at the same moment: `monotonic` in seconds, `wall` with a time zone."""

    monotonic: float
    wall: datetime

    def at(self, monotonic: float) -> str:
        """Return the moment `monotonic`, past or to come, in RFC 3339."""
        return rfc3339(self._wall_at(monotonic))

    def read_again(self, now: Clock) -> Clock:
        """Return this reading as long as `now` agrees with it, else `now`: somebody has set the time of day.

        Two clocks are never read at quite the same moment; what is past would be told with another millisecond each
        time.
        """
        return self if abs(now.wall - self._wall_at(now.monotonic)) < AGREEMENT else now

    def _wall_at(self, monotonic: float) -> datetime:
        return self.wall + timedelta(seconds=monotonic - self.monotonic)


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """What the document says of the daemon itself. Times are seconds of the monotonic clock."""

    version: str
    pid: int
    started_at: float
    config_path: str
    config_loaded_at: float
    config_error: str | None = None
    nginx_ok: bool = True
    nginx_generation: int | None = None
    nginx_error: str | None = None


def rfc3339(moment: datetime) -> str:
    """Return `moment`, which has a time zone, in RFC 3339: UTC, milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def instance_document(  # noqa: PLR0917  (one value from each of those who know something)
    spec: InstanceSpec, instance: Instance, observation: Observation, url: str, launcher: tuple[str, str], clock: Clock
) -> dict[str, Any]:
    """Return one entry of the document's `instances`.

    `url` must hold no token; `launcher` is how the server was started, and why not otherwise.
    """
    return {
        "name": spec.name,
        "state": instance.actual.value,
        "desired": instance.desired.value,
        "reason": instance.reason,
        "since": clock.at(instance.since),
        "pid": instance.pid,
        "user": spec.user,
        "incarnation": instance.incarnation,
        "restarts": instance.restarts,
        "next_restart_at": _next_restart_at(instance, clock),
        "url": url,
        "listen": str(spec.listen),
        "kernels": observation.kernels,
        "connections": observation.connections,
        "last_activity": None if observation.last_activity is None else rfc3339(observation.last_activity),
        "cpu_percent": None if observation.cpu_percent is None else round(observation.cpu_percent, 1),
        "memory_bytes": observation.memory_bytes,
        "launcher": launcher[0],
        "launcher_reason": launcher[1] or None,
    }


def _next_restart_at(instance: Instance, clock: Clock) -> str | None:
    if instance.actual is not Actual.BACKOFF or instance.deadline is None:
        return None
    return clock.at(instance.deadline)


def document(facts: DaemonFacts, instances: Iterable[dict[str, Any]], clock: Clock) -> dict[str, Any]:
    """Return the whole status document; `instances` come from `instance_document` and keep their order."""
    return {
        "version": facts.version,
        "pid": facts.pid,
        "started_at": clock.at(facts.started_at),
        "config": {
            "path": facts.config_path,
            "loaded_at": clock.at(facts.config_loaded_at),
            "error": facts.config_error,
        },
        "nginx": {"ok": facts.nginx_ok, "generation": facts.nginx_generation, "error": facts.nginx_error},
        "instances": list(instances),
    }
