"""How the end of a process is noticed, and who a process is."""

import asyncio
import dataclasses
import signal
import sys
import time

from rig.waiting import until

from jlabd.processes import identity, procfs
from jlabd.processes.exits import wait_exit
from jlabd.processes.spawn import adopt


async def test_exit_is_noticed_at_once(starter):
    """The end of a process is known within 50 ms, with its status or signal."""
    launch = starter.launch("tells.py", argv=("/bin/sh", "-c", "read x; exit 3"))
    worst = 0.0
    for _ in range(20):
        process = await starter.spawn(dataclasses.replace(launch, argv=("/bin/sleep", "1000")))
        waiter = asyncio.create_task(wait_exit(process))
        await asyncio.sleep(0.01)
        killed_at = time.monotonic()
        process.signal(signal.SIGKILL)
        ended = await waiter
        worst = max(worst, time.monotonic() - killed_at)
        assert ended.describe() == "was killed by signal 9 (SIGKILL)"
        assert not ended.clean
    assert worst < 0.05
    ended = await wait_exit(await starter.spawn(launch))
    assert (ended.code, ended.describe()) == (3, "exited with status 3")


async def test_a_wait_can_be_called_off(starter):
    """A wait that was cancelled can be taken up again."""
    process = await starter.spawn(starter.launch("ignores_term.py"))
    task = asyncio.create_task(wait_exit(process))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    process.signal(signal.SIGKILL)
    assert (await wait_exit(process)).signal == signal.SIGKILL


async def test_signals_after_the_end_hit_nobody(starter):
    """A handle whose process is gone signals nothing, even if its descriptor's number is used again."""
    process = await starter.spawn(starter.launch("tells.py", argv=("/bin/true",)))
    await wait_exit(process)
    other = await starter.spawn(starter.launch("ignores_term.py"))
    process.signal(signal.SIGKILL)
    assert identity.is_alive(other.identity)
    other.signal(signal.SIGKILL)
    await wait_exit(other)


async def test_identity_is_more_than_a_pid(starter):
    """Another process with the same pid, of another time or another life of the machine, is somebody else."""
    process = await starter.spawn(starter.launch("ignores_term.py"))
    who = process.identity
    assert identity.is_alive(who)
    assert identity.read(process.pid) == who
    for stranger in (
        dataclasses.replace(who, start_ticks=who.start_ticks - 1),
        dataclasses.replace(who, boot_id="another life"),
    ):
        assert not identity.is_alive(stranger)
        assert adopt(stranger) is None
    adopted = adopt(who)
    adopted.signal(signal.SIGKILL)
    adopted.close()
    assert (await wait_exit(process)).signal == signal.SIGKILL
    assert adopt(who) is None


async def test_a_zombie_is_gone(starter):
    """A process that ended counts as gone although nobody has asked for its status yet."""
    process = await starter.spawn(starter.launch("tells.py", argv=("/bin/true",)))
    until(lambda: procfs.stat(process.pid).state == "Z")
    assert identity.read(process.pid) is None
    assert not identity.is_alive(process.identity)
    await wait_exit(process)


async def test_a_process_whose_main_thread_ended_is_not_gone(starter):
    """What looks like a zombie but has other threads lives, and its exit is not reported."""
    process = await starter.spawn(starter.launch("headless.py"))
    until(lambda: procfs.stat(process.pid).state == "Z")
    assert identity.is_alive(process.identity)
    task = asyncio.create_task(wait_exit(process))
    await asyncio.sleep(0.1)
    assert not task.done()
    process.signal(signal.SIGKILL)
    await task


async def test_somebody_elses_child_ends(starter):
    """The end of an adopted process is noticed; how it ended is not made up."""
    code = "import os, time\npid = os.fork()\nif pid == 0:\n    os.setsid(); time.sleep(1000)\nprint(pid, flush=True)"
    launch = starter.launch("tells.py", argv=(sys.executable, "-c", code, starter.needle))
    await wait_exit(await starter.spawn(launch))
    adopted = adopt(identity.read(int(starter.written())))
    task = asyncio.create_task(wait_exit(adopted))
    await asyncio.sleep(0.05)
    adopted.signal(signal.SIGKILL)
    async with asyncio.timeout(2):
        ended = await task
    assert (ended.code, ended.clean) == (None, False)
    is_ours = ended.signal is not None  # it is, if an earlier test made this process the parent of orphans
    assert ended.describe() == "was killed by signal 9 (SIGKILL)" if is_ours else "unknown" in ended.describe()
