"""The control socket over a real unix socket: routes, waiting, and clients that misbehave."""

import asyncio
import json
import os
import socket
import stat

import pytest

from jlabd.control import server as server_module
from jlabd.control.client import request
from jlabd.control.server import ControlServer
from tests.shells.control.fakes import PLAN, FakeSupervisor, ask, served, short_folder, until


def raw(method, path, body=None):
    content = b"" if body is None else json.dumps(body).encode()
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def parsed(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), body


async def call(path, method, target, body=None):
    status, head, content = parsed(await ask(path, raw(method, target, body)))
    return status, _unchunked(content) if "chunked" in head else content


def _unchunked(body):
    content = b""
    while body:
        length, _, body = body.partition(b"\r\n")
        content, body = content + body[: int(length, 16)], body[int(length, 16) + 2 :]
    return content


def lines(body):
    return [json.loads(line) for line in body.splitlines()]


@pytest.fixture
def supervisor():
    return FakeSupervisor(alice="alice", bob="bob", carl=None)


@pytest.fixture
async def path(supervisor):
    async with served(supervisor) as path:
        yield path


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


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
        {"progress": "alice", "state": between, "reason": f"{verb} requested by root"},
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
            "reason": "not ready within 0.3 s, it is starting: start requested by root",
        },
        {"name": "bob", "ok": True, "state": "ready", "reason": "so it is"},
    ]
    await until(lambda: supervisor.settling == 0)


async def test_no_wait(path, supervisor):
    """Without waiting the answer is what is the case right after asking."""
    supervisor.held = {"alice"}
    _, body = await call(path, "POST", "/stop", {"names": ["alice"], "wait": False})
    result = {"name": "alice", "ok": True, "state": "stopping", "reason": "stop requested by root"}
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
    assert supervisor.asked == [("signal", "alice", 1, "root")]
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


# Clients that misbehave


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\xff\r\n\r\n",
        b"POST /start HTTP/1.1\r\nContent-Length: 5\r\n\r\n{{{{{",
        b"POST /start HTTP/1.1\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        b"POST /start HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET /status HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /start HTTP/1.1\r\nContent-Length: 40000\r\n\r\n" + b"[" * 40_000,
    ],
)
async def test_garbage(path, sent):
    """What is no request is refused, and the next caller is served."""
    assert parsed(await ask(path, sent))[0] == 400
    assert (await call(path, "GET", "/status"))[0] == 200


async def test_large_body_is_refused(path):
    """A request may be 64 KiB long."""
    body = {"names": ["x" * 70_000]}
    assert (await call(path, "POST", "/start", body))[0] == 413


async def test_one_request_a_connection(path):
    """The connection ends with the answer, also for who would like to go on."""
    answer = await ask(path, raw("GET", "/url/alice") + raw("GET", "/url/bob"))
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_silent_connections_are_closed(supervisor, monkeypatch):
    """Who connects and asks nothing, or half of something, is hung up on."""
    monkeypatch.setattr(server_module, "IDLE_S", 0.3)
    async with served(supervisor) as path:
        for start in (b"", b"GET /sta", b"GET /status HTTP/1.1\r\nX: y\r\n"):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(start)
            async with asyncio.timeout(10):
                await reader.read()
            writer.close()


async def test_connections_are_limited(supervisor, monkeypatch):
    """One account cannot use up the daemon's descriptors; when it lets go it is served again."""
    monkeypatch.setattr(server_module, "MOST_OF_ONE_ACCOUNT", 2)
    async with served(supervisor) as path:
        writers = [(await asyncio.open_unix_connection(path))[1] for _ in range(8)]
        before = _descriptors()
        for _ in range(20):
            assert parsed(await ask(path, b""))[0] == 503
        await until(lambda: _descriptors() <= before)
        for writer in writers:
            writer.close()
        await until(lambda: _descriptors() <= before - 16)
        assert (await call(path, "GET", "/status"))[0] == 200


def _descriptors():
    return len(os.listdir("/proc/self/fd"))


async def test_reader_that_stalls_holds_nobody_up(supervisor, folder):
    """Somebody who follows a log and does not read it makes neither others nor the end of the daemon wait."""
    supervisor.log = b"x" * 5_000_000 + b"\n"
    path = f"{folder}/control.sock"
    server = ControlServer(path, supervisor, lambda: "none")
    await server.start()
    with socket.socket(socket.AF_UNIX) as stalled:
        stalled.connect(path)
        stalled.send(raw("GET", "/logs/alice?follow=1"))
        await until(lambda: supervisor.following)
        assert (await call(path, "GET", "/url/bob"))[0] == 200
        await asyncio.wait_for(server.close(), 5)
        assert supervisor.following == 0


async def test_close_ends_streams(supervisor):
    """The daemon's end does not wait for those who follow."""
    async with served(supervisor) as path:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(raw("GET", "/logs/alice?follow=1"))
        await until(lambda: supervisor.following == 1)
        start = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - start < 1
    assert supervisor.following == 0
    writer.close()


# The socket itself


async def test_socket_is_for_everybody_and_goes_away(supervisor):
    """The control socket is 0666, and removed at the end."""
    async with served(supervisor) as path:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
        kept = path
    assert not os.path.exists(kept)


async def test_second_daemon_is_refused_and_harms_nothing(supervisor):
    """While somebody listens on the name, another daemon does not get it."""
    async with served(supervisor) as path:
        second = ControlServer(path, supervisor, lambda: "none")
        with pytest.raises(OSError, match="another process listens"):
            await second.start()
        await second.close()
        assert (await call(path, "GET", "/status"))[0] == 200


async def test_stale_socket_is_replaced(supervisor, folder):
    """After a kill -9 the next daemon takes over the name that was left."""
    path = f"{folder}/control.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    server = ControlServer(path, supervisor, lambda: "none")
    await server.start()
    assert (await call(path, "GET", "/status"))[0] == 200
    await server.close()


async def test_name_that_is_somebody_elses_by_now_stays(supervisor, folder):
    """A daemon that ends removes its own socket only."""
    path = f"{folder}/control.sock"
    first, second = (ControlServer(path, supervisor, lambda: "none") for _ in range(2))
    await first.start()
    os.unlink(path)
    await second.start()
    await first.close()
    assert (await call(path, "GET", "/status"))[0] == 200
    await second.close()
    assert not os.path.exists(path)


async def test_path_longer_than_an_address(supervisor, folder):
    """A runtime folder with a long name works: for the daemon, and for its client."""
    long = folder / ("x" * 120)
    long.mkdir()
    server = ControlServer(str(long / "control.sock"), supervisor, lambda: "none")
    await server.start()
    reply = await asyncio.to_thread(request, str(long / "control.sock"), "GET", "/status")
    assert json.loads(reply.read()) == supervisor.document()
    await server.close()
    assert os.listdir(long) == []


async def test_file_in_the_way_is_not_removed(supervisor, tmp_path):
    """Something that is not a socket is somebody's: it stays."""
    path = tmp_path / "control.sock"
    path.write_text("precious")
    server = ControlServer(str(path), supervisor, lambda: "none")
    with pytest.raises(FileExistsError):
        await server.start()
    await server.close()
    assert path.read_text() == "precious"
