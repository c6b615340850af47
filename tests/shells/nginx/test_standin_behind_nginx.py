"""A stand-in behind the real nginx: the reason arrives, and never nginx's own 502."""

import pytest

from jlabd.front.listeners import Listeners
from jlabd.front.standin import Standing, StandIns
from jlabd.nginx.publish import Publisher
from jlabd.spec import DaemonSpec, UnixListen
from tests.shells.nginx.servers import NOBODY, configured, instance


@pytest.fixture
async def down(server, folder):
    """An instance that is down, behind nginx."""
    spec = instance("alice", UnixListen(f"{folder}/sockets/alice.sock"))
    listeners, stand_ins = Listeners(DaemonSpec(runtime_dir=str(folder)), NOBODY.pw_gid), StandIns()
    stand_ins.start("alice", listeners.open(spec), lambda: Standing("failed", "gave up after 5 failures"))
    await Publisher(server.run).publish(configured(server.spec(), spec))
    await server.start()
    yield f"http://127.0.0.1:{server.port}/alice/"
    await stand_ins.close()
    listeners.close("alice")


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
