"""What Prometheus reads at `/metrics`: the status document in numbers, and what only counting over time can tell.

Names and units follow https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows. The label
with an instance's name is `name`: `instance` is Prometheus's own for whom it asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from jlabd.core.state import Actual, Instance

READY_BUCKETS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)

_GAUGES = {
    "memory_bytes": ("jlabd_instance_memory_bytes", "Memory of the whole process tree."),
    "kernels": ("jlabd_instance_kernels", "Running kernels."),
    "connections": ("jlabd_instance_connections", "Open connections to kernels."),
    "last_activity": ("jlabd_instance_last_activity_timestamp_seconds", "When the lab was last used."),
    "since": ("jlabd_instance_state_since_timestamp_seconds", "When the present state began."),
}
"""Fields of an instance's entry in the status document that are numbers or times."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted since this daemon began, and of each instance's tree the CPU time in seconds."""

    nginx_reloads: int = 0
    nginx_failures: int = 0
    nginx_last_load_ok: bool = True
    config_loads: int = 0
    config_failures: int = 0
    cpu_seconds: Mapping[str, float] | None = None
    memory_kills: Mapping[str, int] | None = None
    """Processes that the kernel killed because there was no memory left, by instance."""


class Metrics:
    """The metrics of one daemon. `document` returns the status document, `counts` what was counted."""

    def __init__(self, document: Callable[[], dict[str, Any]], counts: Callable[[], Counts]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Standing(document, counts))
        ProcessCollector(registry=self._registry)
        self._ready = Histogram(
            "jlabd_instance_ready_seconds",
            "Time from the beginning of a start until the server answered.",
            buckets=READY_BUCKETS_S,
            registry=self._registry,
        )

    def note(self, _name: str, before: Instance, after: Instance) -> None:
        """Take in a change of an instance (a watcher of the driver's table)."""
        if before.actual is Actual.STARTING and after.actual is Actual.READY:
            self._ready.observe(max(0.0, after.since - before.since))

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as an HTTP client with this Accept header reads them, and their content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Standing(Collector):
    """How things stand, made anew for each reader."""

    def __init__(self, document: Callable[[], dict[str, Any]], counts: Callable[[], Counts]) -> None:
        self._document = document
        self._counts = counts

    def describe(self) -> Iterable[Metric]:
        """Say nothing beforehand: the names are ours alone."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        document, counts = self._document(), self._counts()
        instances = document["instances"]
        yield InfoMetricFamily("jlabd_build", "The running daemon.", {"version": document["version"]})
        yield from _of_the_daemon(document, counts)
        yield _states(instances)
        yield _desired(instances)
        yield _restarts(instances)
        yield from (_gauge(instances, field, *named) for field, named in _GAUGES.items())
        yield _cpu(counts.cpu_seconds or {})
        yield _memory_kills(instances, counts.memory_kills or {})


def _of_the_daemon(document: dict[str, Any], counts: Counts) -> Iterator[Metric]:
    nginx, config = document["nginx"], document["config"]
    gauges: dict[str, tuple[str, float | None]] = {
        "jlabd_nginx_ok": ("Whether nginx has the wanted configuration in force (0 or 1).", nginx["ok"]),
        "jlabd_nginx_generation": ("Number of the configuration in force.", nginx["generation"]),
        "jlabd_nginx_last_reload_successful": (
            "Whether nginx took what it was last to take (0 or 1); stays 0 after a refused change that was taken back.",
            counts.nginx_last_load_ok,
        ),
        "jlabd_config_last_load_successful": ("Whether the file was accepted when last read.", config["error"] is None),
        "jlabd_config_last_load_success_timestamp_seconds": (
            "When the configuration in force was loaded.",
            _seconds(config["loaded_at"]),
        ),
    }
    counters = {
        "jlabd_nginx_reloads": ("Reloads of nginx.", counts.nginx_reloads),
        "jlabd_nginx_reload_failures": ("Attempts to bring nginx into line that failed.", counts.nginx_failures),
        "jlabd_config_loads": ("Configurations that were put in force.", counts.config_loads),
        "jlabd_config_load_failures": ("Configurations that were refused.", counts.config_failures),
    }
    for name, (text, value) in gauges.items():
        if value is not None:
            yield GaugeMetricFamily(name, text, value=float(value))
    for name, (text, count) in counters.items():
        yield CounterMetricFamily(name, text, value=count)


def _states(instances: list[dict[str, Any]]) -> Metric:
    family = GaugeMetricFamily(
        "jlabd_instance_state",
        "1 for the state in which the instance is, 0 for the others.",
        labels=("name", "state"),
    )
    for entry in instances:
        for state in Actual:
            family.add_metric((entry["name"], state.value), float(entry["state"] == state.value))
    return family


def _desired(instances: list[dict[str, Any]]) -> Metric:
    text = "Whether the instance is to run (0 or 1)."
    family = GaugeMetricFamily("jlabd_instance_desired_running", text, labels=("name",))
    for entry in instances:
        family.add_metric((entry["name"],), float(entry["desired"] == "running"))
    return family


def _restarts(instances: list[dict[str, Any]]) -> Metric:
    family = CounterMetricFamily("jlabd_instance_restarts", "Restarts that nobody asked for.", labels=("name",))
    for entry in instances:
        family.add_metric((entry["name"],), entry["restarts"])
    return family


def _cpu(seconds: Mapping[str, float]) -> Metric:
    text = "CPU time of the process tree; begins anew with each incarnation."
    family = CounterMetricFamily("jlabd_instance_cpu_seconds", text, labels=("name",))
    for name, used in seconds.items():
        family.add_metric((name,), used)
    return family


def _memory_kills(instances: list[dict[str, Any]], kills: Mapping[str, int]) -> Metric:
    text = "Processes that the kernel killed because there was no memory left, by limit or altogether."
    family = CounterMetricFamily("jlabd_instance_memory_kills", text, labels=("name",))
    for entry in instances:
        family.add_metric((entry["name"],), kills.get(entry["name"], 0))
    return family


def _gauge(instances: list[dict[str, Any]], field: str, name: str, text: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=("name",))
    for entry in instances:
        value = entry[field]
        if value is not None:
            family.add_metric((entry["name"],), _seconds(value) if isinstance(value, str) else float(value))
    return family


def _seconds(rfc3339: str) -> float:
    """Return a time of the status document as Unix time."""
    return datetime.fromisoformat(rfc3339).timestamp()
