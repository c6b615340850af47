"""The fork server: born in the cgroup, and whatever happens to the server, programs start. What they are born with:
test_spawn.py."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from rig.waiting import eventually, until

from jlabd.processes import cgroup, procfs
from jlabd.processes.choice import choose_trees
from jlabd.processes.exits import wait_exit
from jlabd.processes.refusals import SpawnError
from jlabd.warm.forkserver import ForkServer
from tests.shells.processes.conftest import by_server

pytestmark = pytest.mark.root


@pytest.fixture
async def keeper(runtime_dir):
    """The keeper of cgroups."""
    keeper = choose_trees(runtime_dir)
    if keeper.kind != "cgroup":
        keeper.close()
        pytest.skip("NO CGROUP V2 that can be written here")
    yield keeper
    await keeper.kill("a")
    keeper.close()


@pytest.fixture
async def forks():
    """A fork server that runs."""
    forks = ForkServer()
    await forks.begin()
    yield forks
    await forks.close()


@pytest.fixture
def server(forks):
    """The pid of the fork server."""
    return forks.process.pid


@pytest.fixture
def start(forks, keeper, starter):
    """Start a program that stays, as “a”."""
    starter.how, starter.cgroup_fd = by_server(forks), keeper.prepare("a", None).cgroup_fd

    async def start(script="ignores_term.py"):
        return await starter.spawn(starter.launch(script))

    return start


async def test_it_is_born_where_it_belongs(start, keeper, forks, server):
    """The program is the daemon's child, in its cgroup, and its end is told; the server has no child."""
    process = await start()
    stat = procfs.stat(process.pid)
    assert stat.ppid == os.getpid()
    assert keeper.pids("a") == [process.pid]
    assert procfs.read(f"/proc/{server}/task/{server}/children") == b""
    process.signal(signal.SIGKILL)
    assert (await wait_exit(process)).signal == signal.SIGKILL
    assert forks.works


async def test_many_at_once(forks, keeper, starter):
    """A hundred that start at the same time all start, each with its own output."""
    starter.how, starter.cgroup_fd = by_server(forks), keeper.prepare("a", None).cgroup_fd
    launch = starter.launch("tells.py", argv=("/bin/sh", "-c", "echo $$"))
    processes = await asyncio.gather(*(starter.spawn(launch) for _ in range(100)))
    ends = await asyncio.gather(*map(wait_exit, processes))
    assert all(each.clean for each in ends)
    assert sorted(map(int, starter.written().split())) == sorted(process.pid for process in processes)
    assert forks.works


async def test_a_server_that_was_killed(start, keeper, forks, server):
    """The daemon forks by itself then, and goes on doing so."""
    os.kill(server, signal.SIGKILL)
    for _ in range(2):
        process = await start()
        assert process.pid in keeper.pids("a")
    assert not forks.works
    await eventually(lambda: procfs.stat(server) is None, 5)


async def test_a_server_that_hangs(start, keeper, forks, server):
    """The daemon gives it up and forks by itself: there is one program, and not a second one when it goes on."""
    os.kill(server, signal.SIGSTOP)
    process = await start()
    await eventually(lambda: procfs.stat(server) is None, 5)
    assert keeper.pids("a") == [process.pid]
    assert not forks.works


async def test_a_start_that_is_called_off(start, keeper, forks, server):
    """What was asked for and is not wanted any more does not run, whenever the server comes to it."""
    os.kill(server, signal.SIGSTOP)
    unwanted = asyncio.create_task(start())
    await asyncio.sleep(0.1)
    unwanted.cancel()
    await asyncio.wait([unwanted])
    os.kill(server, signal.SIGCONT)
    process = await start()
    await eventually(lambda: keeper.pids("a") == [process.pid], 5)
    assert forks.works


async def test_a_cgroup_that_is_gone(start, keeper, forks):
    """Where nothing can be born the daemon tries by itself, and says what the system says. The next is born again."""
    folder = keeper._leaf("a")
    assert cgroup.remove(folder)
    with pytest.raises(SpawnError, match="cgroup"):
        await start()
    assert forks.works


def test_processors_are_those_of_the_nearest_cgroup_that_says(tmp_path):
    """Which processors a cgroup has is said by itself, or the nearest one above."""
    (tmp_path / "unit/leaf").mkdir(parents=True)
    assert cgroup.processors(str(tmp_path / "unit/leaf")) == ""
    (tmp_path / "cpuset.cpus.effective").write_text("0-3\n")
    assert cgroup.processors(str(tmp_path / "unit/leaf")) == "0-3"
    (tmp_path / "unit/cpuset.cpus.effective").write_text("1\n")
    assert cgroup.processors(str(tmp_path / "unit/leaf")) == "1"


def test_it_ends_with_the_daemon():
    """Nothing of it is left when its daemon is killed; SIGTERM, which a service manager sends to all, is not for it."""
    program = """
import asyncio
from jlabd.warm.forkserver import ForkServer
async def main():
    forks = ForkServer()
    await forks.begin()
    print(forks.process.pid, flush=True)
    await asyncio.sleep(99)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as daemon:
        server = int(daemon.stdout.readline())
        until(lambda: procfs.stat(server).name == "jlabd-fork", 5)
        os.kill(server, signal.SIGTERM)
        assert procfs.stat(server).state in "SR"
        daemon.kill()
        until(lambda: (now := procfs.stat(server)) is None or now.gone, 5)


async def test_it_is_small(forks, server, start):
    """It is worth having because it is small: a fork of it copies little."""
    await start()
    resident = procfs.resident_private_bytes(server)
    assert 0 < resident < 16 * 1024 * 1024
