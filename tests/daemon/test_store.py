"""What survives the daemon: written and read as it was, or set aside."""

import json

import pytest

from jlabd.core.memory import Memory, Server
from jlabd.core.state import Actual, Desired
from jlabd.store import Store

MEMORY = Memory(Desired.RUNNING, Actual.READY, "ready", 3, 0, 1, 5.0, 6.5, None, Server(7, 8), {"user": "x"})


def test_memories_come_back(tmp_path):
    """What was written is read again in the same boot, and forgotten in another one."""
    assert Store(str(tmp_path), "boot").write({"a": MEMORY})
    assert Store(str(tmp_path), "boot").read() == {"a": MEMORY}
    assert Store(str(tmp_path), "later").read() == {}


def damaged(**changes):
    """Return a state file of this boot in which one instance's entry has `changes`."""
    return json.dumps({"version": 1, "boot_id": "boot", "instances": {"a": changes}})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "5",
        "[]",
        "[" * 100_000,
        '{"version": 1, "boot_id": "boot", "instances": []}',
        '{"version": 1, "boot_id": "boot", "instances": {"a": 5}}',
        '{"version": 9, "boot_id": "boot", "instances": {}}',
        damaged(),
        damaged(desired="running", actual="ready", reason="", incarnation=float("inf"), server=None),
        damaged(
            desired="running",
            actual="ready",
            reason="",
            incarnation=1,
            failures=0,
            restarts=0,
            since=0,
            ready_at=None,
            remaining_s=None,
            server=None,
            fields=["x"],
        ),
    ],
)
def test_what_cannot_be_understood_is_set_aside(tmp_path, content):
    """No content of the file, however odd, keeps the daemon from starting."""
    path = tmp_path / "state.json"
    path.write_text(content)
    assert Store(str(tmp_path), "boot").read() == {}
    (aside,) = tmp_path.iterdir()
    assert aside.name.startswith("state.json.bad-")
