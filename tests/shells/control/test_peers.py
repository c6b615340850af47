"""Who calls, by the kernel's word: real processes of other accounts."""

import asyncio
import grp
import json
import os
import pwd
import subprocess

import pytest

from jlabd.control.callers import Callers, Peer
from tests.shells.control.fakes import FakeSupervisor, served

pytestmark = pytest.mark.root

NOBODY = pwd.getpwnam("nobody")
ADMIN_GROUP = grp.getgrnam("daemon")
UNKNOWN_UID = 3_000_000_001

SEND = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(sys.stdin.buffer.read())
while data := connection.recv(65536):
    sys.stdout.buffer.write(data)
"""


async def as_account(path, method, target, body=None, *, uid=NOBODY.pw_uid, gid=NOBODY.pw_gid):
    """Ask as another account; return the status and the decoded lines of the answer."""
    content = b"" if body is None else json.dumps(body).encode()
    request = f"{method} {target} HTTP/1.0\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
    done = await asyncio.to_thread(
        subprocess.run,
        ["/usr/bin/python3", "-I", "-c", SEND, path],
        input=request,
        capture_output=True,
        check=True,
        timeout=60,
        user=uid,
        group=gid,
        extra_groups=[],
        cwd="/",
    )
    head, _, answer = done.stdout.partition(b"\r\n\r\n")
    return int(head.split()[1]), [json.loads(line) for line in answer.splitlines()]


@pytest.fixture
def supervisor():
    return FakeSupervisor(hers="nobody", his="bin", ours=None)


@pytest.fixture
async def path(supervisor):
    async with served(supervisor, ADMIN_GROUP.gr_name) as path:
        yield path


async def test_own_instance_is_seen_whole_and_others_by_state_only(path):
    """A user sees everything of her own instance, and of others' that they exist and how they are."""
    _, [document] = await as_account(path, "GET", "/status")
    hers, his, ours = document["instances"]
    assert hers["reason"] == "ready after 1.2 s"
    for other in (his, ours):
        assert {key for key, value in other.items() if value is not None} == {"name", "state", "since"}


async def test_own_instance_is_hers_to_control(path, supervisor):
    """A user may start, stop, restart, read the log, ask for the link and set the password of her own instance."""
    for verb in ("start", "stop", "restart"):
        assert (await as_account(path, "POST", f"/{verb}", {"names": ["hers"]}))[1][-1]["done"][0]["ok"]
    assert [asked[1:] for asked in supervisor.asked] == [("hers", "nobody")] * 3
    assert (await as_account(path, "GET", "/url/hers?token=1"))[1] == [
        {"url": "http://lab.example.com/hers/?token=SECRET"}
    ]
    supervisor.log = b'"line"\n'
    assert (await as_account(path, "GET", "/logs/hers"))[1] == ["line"]
    body = {"name": "hers", "password_hash": "argon2:$argon2id$xyz"}
    assert (await as_account(path, "POST", "/passwd", body))[0] == 200


async def test_others_instances_are_not(path, supervisor):
    """Nothing may be done to others' instances or to the daemon, and nothing is done before that is known."""
    for name in ("his", "ours"):
        for verb in ("start", "stop", "restart"):
            assert (await as_account(path, "POST", f"/{verb}", {"names": ["hers", name]}))[0] == 403
        assert (await as_account(path, "GET", f"/logs/{name}"))[0] == 403
        assert (await as_account(path, "GET", f"/logs/{name}?follow=1"))[0] == 403
        assert (await as_account(path, "GET", f"/url/{name}"))[0] == 403
        body = {"name": name, "password_hash": "argon2:$argon2id$xyz"}
        assert (await as_account(path, "POST", "/passwd", body))[0] == 403
    assert (await as_account(path, "POST", "/signal", {"name": "hers", "signal": 1}))[0] == 403
    assert (await as_account(path, "POST", "/reload", {"dry_run": True}))[0] == 403
    assert supervisor.asked == []


async def test_refusal_says_who_may(path):
    """The sentence of a refusal names the account that asked and who could."""
    _, [problem] = await as_account(path, "POST", "/stop", {"names": ["his"]})
    assert problem["detail"] == "nobody may not stop 'his': only bin and administrators may"


async def test_all_means_all_of_her_own(path, supervisor):
    """`--all` of an ordinary user leaves others' instances alone; who has none is refused."""
    await as_account(path, "POST", "/stop", {"all": True})
    assert [asked[1] for asked in supervisor.asked] == ["hers"]
    assert (await as_account(path, "POST", "/stop", {"all": True}, uid=UNKNOWN_UID))[0] == 403


async def test_events_of_her_own_only(path, supervisor):
    """Events of others and of the daemon are not hers to see."""
    for name in ("hers", "his", "ours", None, "gone"):
        supervisor.journal.record(name, "state", "ready", "it happened")
    assert [event["instance"] for event in (await as_account(path, "GET", "/events"))[1]] == ["hers"]


async def test_member_of_the_admin_group_controls_everything(path, supervisor):
    """A member of admin_group is not root, and may do all that root may."""
    assert (await as_account(path, "POST", "/stop", {"all": True}, gid=ADMIN_GROUP.gr_gid))[0] == 200
    assert [asked[1] for asked in supervisor.asked] == ["hers", "his", "ours"]
    _, [document] = await as_account(path, "GET", "/status", gid=ADMIN_GROUP.gr_gid)
    assert all(instance["reason"] for instance in document["instances"])


async def test_account_that_the_system_does_not_know(path):
    """A uid without a name is served as a stranger."""
    status, [document] = await as_account(path, "GET", "/status", uid=UNKNOWN_UID, gid=UNKNOWN_UID)
    assert status == 200
    assert document["instances"][0]["pid"] is None


async def test_look_ups_are_remembered_for_a_moment(monkeypatch):
    """A directory service is not asked for each request, and root is never looked up."""
    asked = []
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: asked.append(uid) or NOBODY)
    callers = Callers(lambda: "no-such-group")
    first = await callers.identify(Peer(1, NOBODY.pw_uid, NOBODY.pw_gid))
    second = await callers.identify(Peer(2, NOBODY.pw_uid, NOBODY.pw_gid))
    assert (first.user, first.pid, second.pid, first.is_admin) == ("nobody", 1, 2, False)
    assert (await callers.identify(Peer(3, 0, 0))).is_root
    assert asked == [NOBODY.pw_uid]


async def test_daemons_own_account_is_an_administrator(monkeypatch):
    """A daemon that an ordinary user runs for herself obeys her."""
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    caller = await Callers(lambda: "no-such-group").identify(Peer(1, NOBODY.pw_uid, NOBODY.pw_gid))
    assert caller.is_admin
    assert not caller.is_root
