"""Publishing that is killed, cancelled or asked for twice: the next one sets right what was left half done."""

import asyncio
import os
from pathlib import Path

import pytest
from rig.waiting import until

from jlabd.nginx.generations import Generations
from jlabd.nginx.publish import Publisher
from tests.shells.nginx.servers import Result, configured, instance, running, tree

LAB = "lab.example.com"


@pytest.fixture
def publisher(unprivileged):
    """A publisher for the nginx that needs no root; `server` is either."""
    return Publisher(unprivileged.run)


@pytest.mark.parametrize("moment", ["-t", "reload"])
async def test_killed_between_two_steps_the_next_publish_sets_it_right(unprivileged, publisher, moment):
    """A daemon that dies while nginx tests or is told leaves no state that its successor takes for done."""
    await running(unprivileged, publisher, instance("alice"))

    class Killed(BaseException):
        """Not even `finally` runs after a SIGKILL."""

    async def dying(argv, timeout_s):
        if argv[-1] == moment:
            raise Killed
        return Result(0, "")

    wanted = configured(unprivileged.spec(), instance("alice"), instance("bob"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Generations, "_put_back", lambda self, back: None)
        patch.setattr(Generations, "drop", lambda self, number: None)
        with pytest.raises(Killed):
            await Publisher(dying)._judged(wanted)
    assert (unprivileged.config_dir / "live").readlink() == Path("generations/2")
    for again in (wanted, configured(unprivileged.spec(), instance("alice"))):
        unprivileged.run.calls.clear()
        outcome = await Publisher(unprivileged.run).publish(again)
        assert outcome.ok
        assert outcome.changed
        assert unprivileged.run.calls == ["-t", "reload"]
    assert len(os.listdir(unprivileged.config_dir / "generations")) <= 2


async def test_cancelled_while_nginx_tests_it_is_put_back(unprivileged, publisher):
    """The end of the event loop in the middle of a test leaves the old generation in force."""
    await running(unprivileged, publisher, instance("alice"))
    before = tree(unprivileged.config_dir)
    testing = asyncio.Event()

    async def hanging(argv, timeout_s):
        testing.set()
        await asyncio.Event().wait()

    wanted = configured(unprivileged.spec(), instance("bob"))
    task = asyncio.create_task(Publisher(hanging)._judged(wanted))
    await asyncio.wait_for(testing.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tree(unprivileged.config_dir) == before


async def test_a_caller_that_is_cancelled_does_not_stop_the_attempt(unprivileged, publisher):
    """The publish goes on to its end, and the next caller gets what is true."""
    await running(unprivileged, publisher)
    task = asyncio.create_task(publisher.publish(configured(unprivileged.spec(), instance("alice"))))
    await asyncio.to_thread(until, lambda: unprivileged.run.calls, 10, "the test to be asked for")
    task.cancel()
    outcome = await publisher.publish(configured(unprivileged.spec(), instance("alice")))
    assert (outcome.ok, outcome.changed) == (True, False)
    assert unprivileged.run.calls == ["-t", "reload"]


async def test_what_is_asked_for_meanwhile_becomes_one(unprivileged, publisher):
    """Many publishes during one: they follow as a single one, with the last configuration; two never run at once."""
    at_once = []

    async def slow(argv, timeout_s):
        at_once.append(argv)
        await asyncio.sleep(0.05)
        at_once.pop()
        assert not at_once
        return await unprivileged.run(argv, timeout_s)

    await running(unprivileged, publisher)
    publisher = Publisher(slow)
    wanted = [configured(unprivileged.spec(), instance(f"lab{n}")) for n in range(10)]
    first = asyncio.create_task(publisher.publish(wanted[0]))
    await asyncio.to_thread(until, lambda: at_once, 10, "the first to run")
    outcomes = await asyncio.gather(*(publisher.publish(each) for each in wanted[1:]))
    assert (await first).generation + 1 == outcomes[0].generation
    assert set(outcomes) == {outcomes[0]}
    assert unprivileged.run.calls == ["-t", "reload"] * 2
    assert os.listdir(unprivileged.config_dir / "live/locations") == ["lab9.conf"]
