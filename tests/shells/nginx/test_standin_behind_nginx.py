"""A stand-in behind the real nginx: the reason arrives, and never nginx's own 502."""

import asyncio

import pytest
from rig.waiting import eventually

from jlabd.front.listeners import Listeners
from jlabd.front.standin import Standing, StandIns
from jlabd.spec import DaemonSpec, UnixListen
from tests.shells.front.slow_lab import STARTING, held
from tests.shells.front.slow_lab import server as slow_server
from tests.shells.nginx.servers import NOBODY, configured, instance, quick


@pytest.fixture
async def stand_ins():
    """Stand-ins that end with the test."""
    made = StandIns()
    yield made
    await made.close()


@pytest.fixture
def sock(folder):
    """The socket of an instance."""
    listeners = Listeners(DaemonSpec(runtime_dir=str(folder)), NOBODY.pw_gid)
    yield listeners.open(instance("alice", UnixListen(f"{folder}/sockets/alice.sock")))
    listeners.close("alice")


@pytest.fixture
async def address(server, sock):
    """Where nginx offers it."""
    spec = instance("alice", UnixListen(sock.getsockname()))
    await quick(server.run).publish(configured(server.spec(), spec))
    await server.start()
    return f"http://127.0.0.1:{server.port}/alice/"


@pytest.fixture
async def down(stand_ins, sock, address):
    """An instance that is down, behind nginx."""
    stand_ins.start("alice", sock, lambda: Standing("failed", "gave up after 5 failures"))
    return address


@pytest.mark.parametrize("size", [0, 10, 20_000_000])
async def test_the_reason_arrives_whatever_was_sent(down, http, size):
    """Also a large upload that nobody reads gets the 503 of the stand-in, again and again."""
    for _ in range(5):
        async with http.put(down, data=b"x" * size, headers={"Host": "lab.example.com"}) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "30"
            document = await answer.json(content_type="application/problem+json")
            assert document["reason"] == "gave up after 5 failures"


async def test_a_person_gets_the_page(down, http):
    """A navigation gets the page, a HEAD its headers."""
    headers = {"Host": "lab.example.com", "Sec-Fetch-Mode": "navigate"}
    async with http.get(down, headers=headers) as answer:
        assert answer.status == 503
        assert "gave up after 5 failures" in await answer.text()
    async with http.head(down, headers=headers) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")


async def test_while_the_lab_starts_requests_wait_for_it(stand_ins, sock, address, http):
    """A request and a websocket that came too early are answered by the lab; who left meanwhile is forgotten."""
    headers = {"Host": "lab.example.com"}

    async def talk():
        async with http.ws_connect(f"{address}ws", headers=headers) as channel:
            await channel.send_str("hello")
            return await channel.receive_str()

    async def ask():
        async with http.get(f"{address}api", headers=headers) as answer:
            return answer.status, (await answer.json())["pid"]

    stand_ins.start("alice", sock, lambda: STARTING, hold=True)
    async with slow_server(sock) as lab:
        talking, asking, leaving = (asyncio.create_task(work) for work in (talk(), ask(), ask()))
        await eventually(lambda: held(stand_ins) == 3)
        leaving.cancel()
        await eventually(lambda: held(stand_ins) == 2)
        await lab.serve()
        stand_ins.stop("alice")
        assert await asking == (200, lab.pid)
        assert await talking == "hello"
