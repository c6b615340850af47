"""What counts as a visit, which wakes a lab, and how a visitor learns how things go on."""

import asyncio
import json
import time

import pytest
from rig.waiting import eventually

from jlabd.front import visit
from jlabd.front.standin import Standing
from tests.shells.front.visitors import NAVIGATION, exchange, parsed, request

IDLE = Standing("idle", "not used for 2 h", base_url="/alice/", will_wake=True)
STARTING = Standing("starting", "visited", base_url="/alice/")
OLD_BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@pytest.mark.parametrize(
    ("asked", "is_visit"),
    [
        (request(**NAVIGATION), True),
        (request(**OLD_BROWSER), True),
        (request(path="/alice/", **NAVIGATION), True),
        (request(path="/alice", **NAVIGATION), True),
        (request(path="/alice?x=/", **NAVIGATION), True),
        (request(path="/alicea/", **NAVIGATION), False),
        (request(path="/", **NAVIGATION), False),
        (request(path="/x?/alice/", **NAVIGATION), False),
        (request("HEAD", **NAVIGATION), False),
        (request("POST", **NAVIGATION), False),
        (request(**NAVIGATION, Sec_Purpose="prefetch;prerender"), False),
        (request(**NAVIGATION, Purpose="prefetch"), False),
        (request(**OLD_BROWSER, X_Moz="prefetch"), False),
        (request(**OLD_BROWSER, X_Requested_With="XMLHttpRequest"), False),
        (request(Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe", Accept="text/html"), False),
        (request(Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image", Accept="image/*"), False),
        (request(Sec_Fetch_Mode="cors", Accept="text/html"), False),
        (request(**OLD_BROWSER, Upgrade="websocket", Connection="Upgrade"), False),
        (request(**NAVIGATION, X_Jlabd_Progress="1"), False),
        (request(**NAVIGATION, User_Agent="jlabd probe"), False),
        (request(path="/alice/api/kernels", Accept="*/*"), False),
        (request(), False),
    ],
)
@pytest.mark.parametrize("hold", [False, True])
async def test_only_a_person_who_opens_a_page_of_the_lab_visits_it(stand_ins, sock, asked, is_visit, hold):
    """Polling, frames, forms, what is fetched in advance, and other paths wake nobody."""
    visits = []
    stand_ins.start("alice", sock, lambda: IDLE, hold=hold, visited=lambda: visits.append(1))
    answering = asyncio.create_task(exchange(sock, asked))
    await eventually(lambda: answering.done() or stand_ins._serving["alice"]._received)
    stand_ins.start("alice", sock, lambda: IDLE, visited=lambda: visits.append(1))
    assert parsed(await answering)[0] == 503
    assert len(visits) == is_visit


async def test_the_page_of_the_visit_that_wakes_says_so(stand_ins, sock):
    """The visit is told of before the answer is made."""
    now = [IDLE]

    def visited():
        now[0] = STARTING
        stand_ins.start("alice", sock, lambda: now[0], hold=True)

    stand_ins.start("alice", sock, lambda: now[0], visited=visited)
    _, headers, body = parsed(await exchange(sock, request(**NAVIGATION)))
    assert headers["x-jlabd-state"] == "starting"
    assert b"alice is starting" in body


async def test_who_wakes_a_quick_lab_sees_no_page(stand_ins, sock):
    """When a start is known to take less than a second, the visitor waits for the lab itself."""
    quick = Standing("idle", "x", base_url="/alice/", will_wake=True, expected_s=0.2)

    def visited():
        stand_ins.start("alice", sock, lambda: quick, hold=True)

    stand_ins.start("alice", sock, lambda: quick, visited=visited)
    task = asyncio.create_task(exchange(sock, request(**NAVIGATION)))
    await eventually(lambda: stand_ins._serving["alice"].hold)
    stand_ins.stop("alice")
    connection, _ = await asyncio.get_running_loop().sock_accept(sock)
    connection.sendall(b"the lab itself")
    connection.close()
    assert await task == b"the lab itself"


async def test_a_quick_lab_that_is_slow_this_time_gets_the_page(stand_ins, sock, monkeypatch):
    """The visitor of a lab that is usually quick is told after a while, on whatever way she came."""
    monkeypatch.setattr(visit, "PATIENCE_S", 0.4)
    standing = Standing("starting", "x", base_url="/alice/", expected_s=0.2)
    stand_ins.start("alice", sock, lambda: standing, hold=True)
    began = time.monotonic()
    assert b"alice is starting" in await exchange(sock, request(**NAVIGATION))
    assert time.monotonic() - began > 0.4


@pytest.mark.parametrize("hold", [False, True])
async def test_the_script_of_the_page_is_told_how_things_stand(stand_ins, sock, hold):
    """`X-Jlabd-Progress: 1` is answered at once with everything that the page shows, and the state in a header."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=hold)
    status, headers, body = parsed(await exchange(sock, request(X_Jlabd_Progress="1")))
    assert (status, headers["x-jlabd-state"], headers["content-type"]) == (503, "starting", "application/json")
    document = json.loads(body)
    assert (document["state"], document["headline"], document["mood"]) == ("starting", "alice is starting", "wait")


async def test_the_script_that_waits_is_told_as_soon_as_the_lab_is_ready(stand_ins, sock):
    """`X-Jlabd-Progress: wait` is held until there are news; the page goes on without losing time."""
    now = [STARTING]
    stand_ins.start("alice", sock, lambda: now[0], hold=True)
    task = asyncio.create_task(exchange(sock, request(X_Jlabd_Progress="wait")))
    await eventually(lambda: stand_ins._crowd.received)
    now[0] = Standing("ready", "ready after 3.1 s")
    stand_ins.start("alice", sock, lambda: now[0], hold=True)
    stand_ins.stop("alice")
    assert parsed(await asyncio.wait_for(task, 2))[1]["x-jlabd-state"] == "ready"


async def test_the_script_that_waits_is_told_of_a_failure(stand_ins, sock):
    """A start that fails is news, too; and without news the answer comes after a few seconds."""
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    task = asyncio.create_task(exchange(sock, request(X_Jlabd_Progress="wait")))
    await eventually(lambda: stand_ins._crowd.received)
    stand_ins.start("alice", sock, lambda: Standing("failed", "no program"))
    assert json.loads(parsed(await task)[2])["reason"] == "no program"


async def test_without_news_the_script_is_answered_after_a_while(stand_ins, sock, monkeypatch):
    """A connection is not kept for ever, whatever lies between."""
    monkeypatch.setattr(visit, "NEWS_S", 0.2)
    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    assert parsed(await exchange(sock, request(X_Jlabd_Progress="wait")))[1]["x-jlabd-state"] == "starting"
