"""The control socket over a real unix socket: its routes, and waiting for what was asked."""

import asyncio
import json

import pytest

from tests.shells.control.asking import call, lines, raw
from tests.shells.control.fakes import ME, PLAN, until

# Looking


async def test_status(path, supervisor):
    """/status is the status document, or the part of it that is asked for."""
    assert json.loads((await call(path, "GET", "/status"))[1]) == supervisor.document()
    some = json.loads((await call(path, "GET", "/status?name=carl&name=alice"))[1])
    assert [instance["name"] for instance in some["instances"]] == ["alice", "carl"]


async def test_unknown_name_is_answered_with_the_nearest(path, supervisor):
    """A mistyped name is refused with the name that was meant, and nothing is done to the others."""
    status, body = await call(path, "POST", "/stop", {"names": ["bob", "alcie"]})
    problem = json.loads(body)
    assert status == 404
    assert problem["detail"] == "no instance 'alcie'; did you mean 'alice'?"
    assert sorted(problem) == ["detail", "status", "title", "type"]
    assert supervisor.asked == []


async def test_routes_are_literal(path):
    """Neither other paths nor other methods do anything."""
    assert (await call(path, "GET", "/stop"))[0] == 405
    assert (await call(path, "POST", "/status"))[0] == 405
    for target in ("/", "/status/", "/logs/../status", "/logs/a/b", "/start/alice", "/__class__"):
        status, body = await call(path, "GET", target)
        assert (status, json.loads(body)["title"]) == (404, "Not Found")


async def test_url(path):
    """The address comes without a token unless it is asked for."""
    assert json.loads((await call(path, "GET", "/url/alice"))[1]) == {"url": "http://lab.example.com/alice/"}
    assert json.loads((await call(path, "GET", "/url/alice?token=1"))[1])["url"].endswith("?token=SECRET")


async def test_log_bytes_are_not_touched(path):
    """Whatever a lab wrote comes out as it is, UTF-8 or not."""
    assert await call(path, "GET", "/logs/alice?lines=2") == (200, b"second\n\xff\xfe third\n")


async def test_followed_log_ends_with_its_reader(path, supervisor):
    """A log is streamed as it grows, and the daemon stops reading it when the reader leaves."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(raw("GET", "/logs/alice?lines=1&follow=1"))
    await reader.readuntil(b"\xff\xfe third\n")
    await reader.readuntil(b"more\n")
    assert supervisor.following == 1
    writer.close()
    await until(lambda: supervisor.following == 0)


async def test_events_and_following_them(path, supervisor):
    """The last events come first, then each new one at once."""
    for n in range(5):
        supervisor.journal.record("alice", "state", "ready", f"event {n}")
    recent = lines((await call(path, "GET", "/events?lines=2"))[1])
    assert [event["reason"] for event in recent] == ["event 3", "event 4"]
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(raw("GET", "/events?lines=1&follow=1"))
    await reader.readuntil(b"event 4")
    supervisor.journal.record(None, "reload", None, "and another")
    await reader.readuntil(b"and another")
    writer.close()


@pytest.mark.parametrize("target", ["/events?lines=-1", "/logs/alice?lines=x", "/logs/alice?lines=" + "9" * 13])
async def test_bad_numbers_of_lines(path, target):
    """What is no number of lines is refused."""
    assert (await call(path, "GET", target))[0] == 400


# Starting, stopping, restarting


@pytest.mark.parametrize(("verb", "between", "end"), [("start", "starting", "ready"), ("stop", "stopping", "stopped")])
async def test_progress_and_result(path, supervisor, verb, between, end):
    """Each change of the instances that are waited for is told, and the result last."""
    supervisor.journal.record("bob", "state", "ready", "none of my business")
    _, body = await call(path, "POST", f"/{verb}", {"names": ["alice"]})
    assert lines(body) == [
        {"progress": "alice", "state": between, "reason": f"{verb} requested by {ME}"},
        {"progress": "alice", "state": end, "reason": "so it is"},
        {"done": [{"name": "alice", "ok": True, "state": end, "reason": "so it is"}]},
    ]
    assert [asked[:2] for asked in supervisor.asked] == [(verb, "alice")]


async def test_all_at_once(path, supervisor):
    """All instances are asked before the first is waited for: it takes as long as the slowest."""
    supervisor.held = {"alice", "bob", "carl"}
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(raw("POST", "/stop", {"all": True}))
    await until(lambda: len(supervisor.asked) == 3)
    for name in supervisor.names():
        supervisor.become(name, "stopped", "at last")
    await reader.readuntil(b'"done"')
    writer.close()


async def test_failure_is_the_result(path, supervisor):
    """An instance that ends as failed is not ok, and says why."""
    supervisor.held = {"alice"}
    asking = asyncio.ensure_future(call(path, "POST", "/restart", {"names": ["alice", "bob"]}))
    await until(lambda: supervisor.settling)
    supervisor.become("alice", "failed", "no JupyterLab in /opt/x")
    done = lines((await asking)[1])[-1]["done"]
    assert [(entry["name"], entry["ok"], entry["state"]) for entry in done] == [
        ("alice", False, "failed"),
        ("bob", True, "ready"),
    ]
    assert done[0]["reason"] == "no JupyterLab in /opt/x"


async def test_timeout(path, supervisor):
    """When the time is up the result says what is the case, and the work goes on."""
    supervisor.held = {"alice"}
    _, body = await call(path, "POST", "/start", {"names": ["alice", "bob"], "timeout": 0.3})
    assert lines(body)[-1]["done"] == [
        {
            "name": "alice",
            "ok": False,
            "state": "starting",
            "reason": f"not ready within 0.3 s, it is starting: start requested by {ME}",
        },
        {"name": "bob", "ok": True, "state": "ready", "reason": "so it is"},
    ]
    await until(lambda: supervisor.settling == 0)


async def test_no_wait(path, supervisor):
    """Without waiting the answer is what is the case right after asking."""
    supervisor.held = {"alice"}
    _, body = await call(path, "POST", "/stop", {"names": ["alice"], "wait": False})
    result = {"name": "alice", "ok": True, "state": "stopping", "reason": f"stop requested by {ME}"}
    assert lines(body) == [{"done": [result]}]


async def test_client_that_leaves_does_not_cancel_the_work(path, supervisor):
    """Who goes away only stops waiting: the request was made, and nothing is left behind of the waiting."""
    supervisor.held = {"alice"}
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(raw("POST", "/stop", {"names": ["alice"]}))
    await until(lambda: supervisor.settling == 1)
    writer.close()
    await until(lambda: supervisor.settling == 0)
    assert [asked[:2] for asked in supervisor.asked] == [("stop", "alice")]
    assert supervisor.instances["alice"].actual == "stopping"


async def test_slow_stop_delays_nobody(path, supervisor):
    """While one caller waits for alice, another's request for bob is done."""
    supervisor.held = {"alice"}
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(raw("POST", "/stop", {"names": ["alice"]}))
    await until(lambda: supervisor.settling == 1)
    assert lines((await call(path, "POST", "/stop", {"names": ["bob"]}))[1])[-1]["done"][0]["ok"]
    writer.close()


async def test_refused_by_the_daemon(path, supervisor):
    """What the daemon cannot do now is answered with its sentence."""
    supervisor.refuse = "jlabd is stopping"
    for target, body in (("/start", {"names": ["alice"]}), ("/signal", {"name": "alice", "signal": 1})):
        status, answer = await call(path, "POST", target, body)
        assert (status, json.loads(answer)["detail"]) == (409, "jlabd is stopping")


# The other requests


async def test_signal(path, supervisor):
    """A signal goes to the server process, by number; what is no signal is refused."""
    assert (await call(path, "POST", "/signal", {"name": "alice", "signal": 1}))[0] == 200
    assert supervisor.asked == [("signal", "alice", 1, ME)]
    for wrong in (0, 99, -1, "HUP", True, None, 1.0):
        assert (await call(path, "POST", "/signal", {"name": "alice", "signal": wrong}))[0] == 400
    assert len(supervisor.asked) == 1


async def test_reload(path, supervisor):
    """The plan comes back as the daemon made it."""
    status, body = await call(path, "POST", "/reload", {"dry_run": True})
    assert (status, json.loads(body)) == (200, PLAN)
    assert [asked[:2] for asked in supervisor.asked] == [("reload", True)]


async def test_reload_is_finished_although_its_client_left(path, supervisor):
    """A transaction is not left half done because somebody pressed Ctrl-C."""
    supervisor.reload_may_end.clear()
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(raw("POST", "/reload", {}))
    await until(lambda: supervisor.reloading)
    writer.close()
    await writer.wait_closed()
    await call(path, "GET", "/status")
    supervisor.reload_may_end.set()
    await until(lambda: supervisor.asked)


async def test_passwd(path, supervisor):
    """A hash is put in place; what is no hash, like a password in the clear, is not."""
    good = "argon2:$argon2id$v=19$m=10240,t=10,p=8$c2FsdHNhbHQ$aGFzaGhhc2g"
    status, body = await call(path, "POST", "/passwd", {"name": "bob", "password_hash": good})
    assert (status, json.loads(body)) == (200, {"message": "bob is restarted with the new password"})
    for wrong in ("secret", "", "argon2:with space in it", "argon2:$x\n[evil]", "argon2:" + "x" * 2000, 7):
        assert (await call(path, "POST", "/passwd", {"name": "bob", "password_hash": wrong}))[0] == 400
    assert len(supervisor.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"names": []},
        {"names": "alice"},
        {"names": [1]},
        {"all": "yes"},
        {"names": ["alice"], "wait": 1},
        {"names": ["alice"], "timeout": "5"},
        {"names": ["alice"], "timeout": -1},
        {"names": ["alice"], "timeout": 1e300},
        {"names": ["alice"], "timeout": float("nan")},
        ["alice"],
        "alice",
        None,
    ],
)
async def test_nonsense_is_refused(path, supervisor, body):
    """A request that is not as the route table says is refused whole."""
    assert (await call(path, "POST", "/start", body))[0] == 400
    assert supervisor.asked == []
