"""Publishing that is killed, cancelled or asked for twice: the next one sets right what was left half done."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from rig.waiting import until

from tests.shells.nginx.servers import configured, instance, quick, running, tree

LAB = "lab.example.com"


@pytest.fixture
def publisher(unprivileged):
    """A publisher for the nginx that needs no root; `server` is either."""
    return quick(unprivileged.run)


STEPS = {"os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.chmod", "os.fork"}


@pytest.mark.parametrize("views", [True, False])
def test_killed_between_any_two_steps(unprivileged, views):
    """Whenever the daemon dies, nginx could start with what lies there, and the next daemon brings in what is wanted.

    Each daemon is killed one step later than the one before, and finds what that one has left behind.
    """
    unprivileged.run.views = views
    asyncio.run(running(unprivileged, quick(unprivileged.run), instance("alice")))
    step = 0
    killed = True
    while killed:
        step += 1
        wanted = configured(unprivileged.spec(), instance("alice"), instance(f"lab{step}"))
        killed = _killed_at(step, quick(unprivileged.run), wanted)
        live = unprivileged.config_dir / "live"
        assert (live / "locations/alice.conf").exists(), step
        done = subprocess.run([*unprivileged.command, "-t"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (step, done.stderr)
        if step % 8 == 0:
            wanted = configured(unprivileged.spec(), instance("alice"), instance("bob" if step % 16 else "carol"))
            outcome = asyncio.run(quick(unprivileged.run).publish(wanted))
            assert (outcome.ok, outcome.changed) == (True, True), (step, outcome.error)
            assert len(os.listdir(unprivileged.config_dir / "generations")) <= 3
    assert step > 15
    print(f"{step - 1} daemons were killed")


def _killed_at(step, publisher, wanted):
    """Publish in a process that dies before its `step`-th step; return whether it came to that."""
    pid = os.fork()
    if pid == 0:
        _count_down(step)
        asyncio.run(publisher.publish(wanted))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def _count_down(steps):
    """Kill this process before it does the `steps`-th thing that others can see; what it forks is spared."""
    me, left = os.getpid(), [steps]

    def look(event, _arguments):
        if event in STEPS and os.getpid() == me:
            left[0] -= 1
            if left[0] == 0:
                os.kill(me, signal.SIGKILL)

    sys.addaudithook(look)


async def test_cancelled_while_nginx_tests_it_is_put_back(unprivileged, publisher):
    """The end of the event loop in the middle of a test leaves the old generation in force."""
    await running(unprivileged, publisher, instance("alice"))
    before = tree(unprivileged.config_dir)
    testing = asyncio.Event()

    async def hanging(argv, timeout_s, **more):
        testing.set()
        await asyncio.Event().wait()

    wanted = configured(unprivileged.spec(), instance("bob"))
    task = asyncio.create_task(quick(hanging)._judged(wanted))
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
    assert unprivileged.run.reloads == 1


async def test_what_is_asked_for_meanwhile_becomes_one(unprivileged, publisher):
    """Many publishes during one: they follow as a single one, with the last configuration; two never run at once."""
    at_once = []

    async def slow(argv, timeout_s, **more):
        at_once.append(argv)
        await asyncio.sleep(0.05)
        at_once.pop()
        assert not at_once
        return await unprivileged.run(argv, timeout_s, **more)

    await running(unprivileged, publisher)
    publisher = quick(slow)
    wanted = [configured(unprivileged.spec(), instance(f"lab{n}")) for n in range(10)]
    first = asyncio.create_task(publisher.publish(wanted[0]))
    await asyncio.to_thread(until, lambda: at_once, 10, "the first to run")
    outcomes = await asyncio.gather(*(publisher.publish(each) for each in wanted[1:]))
    assert (await first).generation + 1 == outcomes[0].generation
    assert set(outcomes) == {outcomes[0]}
    assert unprivileged.run.reloads == 2
    assert os.listdir(unprivileged.config_dir / "live/locations") == ["lab9.conf"]
