"""The status document, from values alone."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from jlabd.core.state import Actual, Desired, Instance
from jlabd.spec import InstanceSpec, TcpListen, UnixListen
from jlabd.status.view import Clock, DaemonFacts, Observation, all_as_desired, document, instance_document, rfc3339

CLOCK = Clock(1000.0, datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC))
SPEC = InstanceSpec("alice", UnixListen("/run/jlabd/sockets/alice.sock"), user="alice", password_hash="argon2:SECRET")


def _entry(instance, observation=Observation(), spec=SPEC):  # noqa: B008  (frozen)
    return instance_document(spec, instance, observation, "http://h/alice/", ("warm", ""), CLOCK)


def test_entry_has_the_keys_of_the_product_page_in_their_order():
    """Scripts find each key that is promised, and people find them in the order that is documented."""
    expected = "name state desired reason since pid user incarnation restarts next_restart_at url listen kernels"
    expected += " connections last_activity cpu_percent memory_bytes launcher launcher_reason"
    assert list(_entry(Instance())) == expected.split()


def test_what_is_past_keeps_its_moment():
    """A clock that is read a little late changes nothing; one that was set is believed."""
    late = Clock(1050.0, CLOCK.wall + timedelta(seconds=50.002))
    assert CLOCK.read_again(late) is CLOCK
    for offset_s in (-3600.0, -0.2, 0.2, 3600.0):
        was_set = Clock(1050.0, CLOCK.wall + timedelta(seconds=50.0 + offset_s))
        assert CLOCK.read_again(was_set) is was_set


def test_ready_instance():
    """A ready instance is shown with what was observed, in RFC 3339 UTC."""
    instance = Instance(Desired.RUNNING, Actual.READY, "ready after 1.0 s", 940.5, 3, 4711, restarts=2)
    seen = datetime(2026, 3, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    entry = _entry(instance, Observation(2, 3, seen, 12.345, 1024))
    assert entry == {
        "name": "alice",
        "state": "ready",
        "desired": "running",
        "reason": "ready after 1.0 s",
        "since": "2026-03-01T11:59:00.500Z",
        "pid": 4711,
        "user": "alice",
        "incarnation": 3,
        "restarts": 2,
        "next_restart_at": None,
        "url": "http://h/alice/",
        "listen": "unix:/run/jlabd/sockets/alice.sock",
        "kernels": 2,
        "connections": 3,
        "last_activity": "2026-03-01T12:00:00.000Z",
        "cpu_percent": 12.3,
        "memory_bytes": 1024,
        "launcher": "warm",
        "launcher_reason": None,
    }


def test_backoff_says_when_it_tries_again():
    """The next attempt of a backoff is a time of day; deadlines of other states are nobody's business."""
    backoff = Instance(Desired.RUNNING, Actual.BACKOFF, "crashed", 990.0, 1, deadline=1030.0)
    starting = Instance(Desired.RUNNING, Actual.STARTING, "start requested", 990.0, 1, deadline=1030.0)
    assert _entry(backoff)["next_restart_at"] == "2026-03-01T12:00:30.000Z"
    assert _entry(starting)["next_restart_at"] is None


def test_tcp_addresses():
    """A TCP address is shown as tcp:HOST:PORT."""
    assert _entry(Instance(), spec=InstanceSpec("a", TcpListen("::1", 8888)))["listen"] == "tcp:[::1]:8888"


def test_no_secret_is_shown():
    """Neither hash nor environment of an instance gets into the document."""
    assert "SECRET" not in str(_entry(Instance()))


def test_document():
    """The whole document has the shape of the product page."""
    facts = DaemonFacts("0.1.0", 42, 900.0, "/etc/jlabd.toml", 950.0, "line 3: no", False, 7, "nginx -t failed")
    assert document(facts, [{"name": "alice"}], CLOCK) == {
        "version": "0.1.0",
        "pid": 42,
        "started_at": "2026-03-01T11:58:20.000Z",
        "config": {"path": "/etc/jlabd.toml", "loaded_at": "2026-03-01T11:59:10.000Z", "error": "line 3: no"},
        "nginx": {"ok": False, "generation": 7, "error": "nginx -t failed"},
        "instances": [{"name": "alice"}],
    }


def test_rfc3339_is_utc():
    """Every time is told in UTC, with a Z."""
    assert rfc3339(datetime(2026, 7, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))) == "2026-06-30T22:30:00.000Z"


@pytest.mark.parametrize(
    ("desired", "state", "expected"),
    [
        ("running", "ready", True),
        ("running", "idle", True),
        ("running", "starting", False),
        ("running", "unhealthy", False),
        ("running", "stopping", False),
        ("running", "backoff", False),
        ("running", "failed", False),
        ("running", "stopped", False),
        ("stopped", "stopped", True),
        ("stopped", "stopping", True),
        (None, "failed", True),
    ],
)
def test_as_desired(desired, state, expected):
    """Exit code 3 means that one that should run does not; what the caller may not see does not count."""
    instances = [{"desired": "running", "state": "ready"}, {"desired": desired, "state": state}]
    assert all_as_desired({"instances": instances}) is expected
