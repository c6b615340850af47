"""Short commands: status, output and time."""

import asyncio
import os
import signal
import sys
import threading
import time

import pytest
from rig.processes import with_argument

from jlabd.processes.command import NOT_RUN, OUTPUT_LIMIT, run
from jlabd.processes.marked_trees import MarkedTrees


@pytest.fixture(params=["plain", "beside a reaper"])
async def surroundings(request, runtime_dir):
    """Commands run both without and with somebody who buries orphans."""
    if request.param == "plain":
        yield
        return
    trees = MarkedTrees(runtime_dir)
    yield
    trees.close()


async def test_status_and_output(surroundings):
    """A command's status, stdout and stderr are told as they are."""
    result = await run(["sh", "-c", "echo out; echo err >&2; exit 3"], 10)
    assert (result.status, result.output, result.timed_out) == (3, "out\nerr\n", False)


async def test_a_signal_is_told_as_shells_do(surroundings):
    """A command that a signal killed has status 128 + n."""
    assert (await run(["sh", "-c", "kill -TERM $$"], 10)).status == 128 + signal.SIGTERM


async def test_many_at_a_time_without_threads(surroundings):
    """Fifty commands at a time each get their own status, and no thread is started."""
    threads = threading.active_count()
    results = await asyncio.gather(*(run(["sh", "-c", f"exit {number}"], 30) for number in range(50)))
    assert [result.status for result in results] == list(range(50))
    assert threading.active_count() == threads


async def test_a_missing_command_is_an_answer():
    """A program that is not there gives a status and a sentence."""
    result = await run(["no-such-nginx", "-t"], 10)
    assert result.status == NOT_RUN
    assert "There is no program “no-such-nginx” in PATH" in result.output


async def test_too_slow_is_killed_with_its_group():
    """A command that takes too long is killed with its children, in time."""
    needle = f"needle-{os.urandom(8).hex()}"
    started = time.monotonic()
    program = f'{sys.executable} -c "import time; time.sleep(99)" {needle} & echo begun; wait'
    result = await run(["sh", "-c", program], 0.5)
    assert result.timed_out
    assert result.output == "begun\n"
    assert time.monotonic() - started < 2
    assert with_argument(needle) == []


async def test_a_grandchild_that_keeps_the_output_open_delays_nothing():
    """The command's own end counts, not that of the pipe."""
    started = time.monotonic()
    result = await run(["sh", "-c", "sleep 5 & echo done"], 10)
    assert (result.status, result.output) == (0, "done\n")
    assert time.monotonic() - started < 2


async def test_endless_output_is_cut():
    """Only the start of a flood is kept, and the command is not blocked by it."""
    result = await run(["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"], 20)
    assert result.status == 0
    assert result.output == "x" * OUTPUT_LIMIT + f"\n[{3000000 - OUTPUT_LIMIT} more bytes]"


async def test_output_that_is_not_text():
    """Bytes that are not UTF-8 do no harm."""
    assert (await run(["printf", r"\377\376ok"], 10)).output == "\ufffd\ufffdok"


async def test_the_daemons_own_variables_are_kept_from_commands(monkeypatch):
    """What systemd tells the daemon is not for its helpers; the rest of the environment is."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    monkeypatch.setenv("OTHER", "1")
    assert (await run(["sh", "-c", "echo $NOTIFY_SOCKET-$OTHER"], 10)).output == "-1\n"
    assert (await run(["sh", "-c", "echo -$OTHER"], 10, env={"PATH": os.defpath})).output == "-\n"


async def test_calling_it_off_kills_it():
    """A command whose caller is cancelled ends."""
    needle = f"needle-{os.urandom(8).hex()}"
    task = asyncio.create_task(run([sys.executable, "-c", "import time; time.sleep(99)", needle], 99))
    await asyncio.sleep(0.3)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0.1)
    assert with_argument(needle) == []
