"""Looking only at what can belong to an instance: at nothing that is older than its first process."""

import asyncio
import subprocess

from jlabd.processes import procfs
from jlabd.processes.marks import Target, begin_target, take_snapshot_gently


def test_nothing_that_is_started_from_now_on_is_older():
    """The clock that is read and the one by which the system dates processes agree, to the tick."""
    for _ in range(30):
        now = procfs.ticks_now()
        with subprocess.Popen(["sleep", "100"]) as child:
            started = procfs.stat(child.pid).start_ticks
            child.kill()
        assert now <= started <= now + 2 * procfs.TICKS_PER_SECOND


async def test_older_processes_are_left_out():
    """A look sees the processes that were started since, and those only."""
    children = [await asyncio.create_subprocess_exec("sleep", "100") for _ in range(2)]
    pids = {child.pid for child in children}
    first, last = (procfs.stat(child.pid).start_ticks for child in children)
    assert pids <= (await take_snapshot_gently(since=first)).seen.keys()
    assert pids & (await take_snapshot_gently(since=last + 1)).seen.keys() == set()
    for child in children:
        child.kill()
        await child.wait()


def test_what_an_earlier_attempt_began_still_counts():
    """A start that is made ready again after one that failed does not forget what the first one left."""
    targets = {}
    first = begin_target(targets, Target("a", "mark", 0))
    assert 0 < first.since <= procfs.ticks_now() + 1
    first.since -= 1000
    again = begin_target(targets, Target("a", "mark", 0))
    assert (again.since, targets) == (first.since, {"a": again})


def test_what_an_earlier_daemon_left_may_be_of_any_age():
    """Without a first process of ours every process is looked at."""
    known = Target("a", "mark", 0)
    targets = {"a": known}
    assert begin_target(targets, Target("a", "mark", 0)).since == 0
