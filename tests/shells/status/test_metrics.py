"""The metrics, read back by the official parser."""

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jlabd.core.state import Actual, Instance
from jlabd.status.metrics import Counts, Metrics

ALICE = {
    "name": "alice",
    "state": "ready",
    "desired": "running",
    "since": "2026-01-02T03:04:05.000Z",
    "restarts": 3,
    "kernels": 2,
    "connections": None,
    "last_activity": "1970-01-01T00:01:00.000Z",
    "memory_bytes": 1024,
}
DOCUMENT = {
    "version": "1.2.3",
    "config": {"path": "/etc/jlabd.toml", "loaded_at": "1970-01-01T00:00:10.000Z", "error": "no"},
    "nginx": {"ok": True, "generation": 7, "error": None},
    "instances": [ALICE],
}
COUNTS = Counts(nginx_reloads=4, nginx_failures=1, config_loads=2, config_failures=5, cpu_seconds={"alice": 1.5})


def samples(metrics):
    """Return the samples of an exposition, (name, labels) → value."""
    body, content_type = metrics.exposition("text/plain")
    assert content_type.startswith("text/plain")
    families = text_string_to_metric_families(body.decode())
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


@pytest.fixture
def metrics():
    return Metrics(lambda: DOCUMENT, lambda: COUNTS)


def test_what_the_document_says(metrics):
    """Everything that is a number in the status document is a metric, in base units."""
    found = samples(metrics)
    assert found["jlabd_build_info", "1.2.3"] == 1
    assert found["jlabd_instance_state", "alice", "ready"] == 1
    assert found["jlabd_instance_state", "alice", "failed"] == 0
    assert found["jlabd_instance_restarts_total", "alice"] == 3
    assert found["jlabd_instance_memory_bytes", "alice"] == 1024
    assert found["jlabd_instance_last_activity_timestamp_seconds", "alice"] == 60
    assert found["jlabd_nginx_generation",] == 7
    assert found["jlabd_config_last_load_successful",] == 0
    assert ("jlabd_instance_connections", "alice") not in found


def test_what_was_counted(metrics):
    """Counters and CPU time come from those who count."""
    found = samples(metrics)
    assert found["jlabd_nginx_reloads_total",] == 4
    assert found["jlabd_nginx_reload_failures_total",] == 1
    assert found["jlabd_config_load_failures_total",] == 5
    assert found["jlabd_instance_cpu_seconds_total", "alice"] == 1.5


def test_the_time_to_ready(metrics):
    """Each start that became ready is in the histogram with its time, and nothing else is."""
    starting = Instance(actual=Actual.STARTING, since=10.0)
    ready = replace(starting, actual=Actual.READY, since=13.0)
    metrics.note("alice", starting, ready)
    metrics.note("alice", ready, replace(ready, actual=Actual.UNHEALTHY))
    found = samples(metrics)
    assert (found["jlabd_instance_ready_seconds_count",], found["jlabd_instance_ready_seconds_sum",]) == (1, 3)
    assert found["jlabd_instance_ready_seconds_bucket", "2.0"] == 0
    assert found["jlabd_instance_ready_seconds_bucket", "5.0"] == 1
