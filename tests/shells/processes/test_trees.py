"""Whole trees end, whatever they do, with cgroups and without."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rig.waiting import eventually, until

from jlabd.processes import cgroup, hunt, procfs
from jlabd.processes.choice import choose_trees
from jlabd.processes.exits import wait_exit
from jlabd.processes.marked_trees import MarkedTrees
from jlabd.processes.marks import is_ours, mark_of, realtime_limit

HOSTILE = {
    "setsid": (["new_session.py"], 2),
    "double fork": (["double_fork.py", "stay"], 2),
    "double fork, leader gone": (["double_fork.py"], 1),
    "double fork with an empty environment": (["double_fork.py", "clean", "stay"], 2),
    "double fork with an empty environment, leader gone": (["double_fork.py", "clean"], 1),
    "ignores SIGTERM": (["ignores_term.py"], 1),
    "nohup in a terminal": (["nohup.py"], 3),
    "forks all the time": (["multiplies.py"], 10),
    "stops itself": (["stops_itself.py"], 1),
    "main thread ended": (["headless.py"], 1),
}


async def settled(starter, at_least):
    """Wait until that many processes of the test run."""
    await eventually(lambda: len(starter.living()) >= at_least, 20)


def copycat(mark):
    """Start a process of a stranger's that carries both marks of an instance."""
    code = f"import resource, time; resource.setrlimit(15, ({realtime_limit(mark)},) * 2); time.sleep(99)"
    return subprocess.Popen(["/usr/bin/python3", "-c", code], env={"JLABD_MARK": mark}, user=1)


def library_child():
    """Start a child as libraries do."""
    return subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])


@pytest.mark.parametrize("kind", HOSTILE)
async def test_nothing_survives_a_kill(keeper, starter, kind):
    """After a kill no process of the instance is left, whatever it did."""
    script, many = HOSTILE[kind]
    process = await starter.start(keeper, "a", *script)
    await settled(starter, many)
    await eventually(lambda: not keeper.is_empty("a"), 20)  # one that just forked may end while it is looked at
    async with asyncio.timeout(15):
        await keeper.kill("a")
    assert starter.living() == []
    assert keeper.is_empty("a")
    assert keeper.pids("a") == []
    await wait_exit(process)


@pytest.mark.parametrize("kind", ["ignores SIGTERM", "setsid", "forks all the time"])
async def test_asking_first_changes_nothing(keeper, starter, kind):
    """Children that answer the polite signal by staying, or by forking, are killed all the same."""
    script, many = HOSTILE[kind]
    process = await starter.start(keeper, "a", *script)
    await settled(starter, many)
    process.signal(signal.SIGTERM)
    await asyncio.sleep(0.2)
    await keeper.kill("a")
    assert starter.living() == []


async def test_a_process_that_is_never_the_same_is_caught(keeper, starter):
    """A program that forks and ends faster than anybody can look is caught."""
    process = await starter.start(keeper, "a", "runs_away.py")
    await wait_exit(process)
    await asyncio.sleep(0.1)
    async with asyncio.timeout(15):
        await keeper.kill("a")
    for _ in range(50):
        assert starter.living() == []


async def test_kill_before_anything_was_started_is_quick(keeper):
    """Killing an instance of which nothing runs, or that is unknown, ends at once."""
    keeper.prepare("a", None)
    async with asyncio.timeout(2):
        await keeper.kill("a")
        await keeper.kill("never-prepared")


async def test_many_kills_at_a_time(keeper, starter):
    """Ten instances, each killed twice at the same time, end together."""
    names = [f"i{number}" for number in range(10)]
    for name in names:
        await starter.start(keeper, name, "new_session.py")
    await settled(starter, 20)
    async with asyncio.timeout(15):
        await asyncio.gather(*(keeper.kill(name) for name in names + names))
    assert starter.living() == []


async def test_neighbours_live(keeper, starter):
    """Killing one instance touches no process of another one, of the same user too."""
    await starter.start(keeper, "a", "new_session.py")
    neighbour = await starter.start(keeper, "b", "new_session.py")
    await settled(starter, 4)
    of_b = keeper.pids("b")
    await keeper.kill("a")
    assert keeper.is_empty("a")
    assert keeper.pids("b") == of_b == sorted(starter.living())
    assert len(of_b) == 2
    assert neighbour.pid in of_b
    await keeper.kill("b")


async def test_names_like_files_of_the_kernel(keeper, starter):
    """An instance may be called like a file of the cgroup file system."""
    await starter.start(keeper, "cgroup.procs", "new_session.py")
    await settled(starter, 2)
    await keeper.kill("cgroup.procs")
    assert starter.living() == []


async def test_usage_counts_the_whole_tree(keeper, starter):
    """Processor time and memory are those of all processes."""
    enrolment = keeper.prepare("a", None)
    busy = "import os, time\nos.fork()\nx = bytearray(30 << 20)\nwhile True: pass"
    launch = starter.launch("tells.py", mark=enrolment.mark, argv=(sys.executable, "-c", busy, starter.needle))
    await starter.spawn(launch, cgroup_fd=enrolment.cgroup_fd)
    await settled(starter, 2)
    await asyncio.sleep(1)
    used = keeper.usage("a")
    assert used.memory_bytes > 60 << 20
    assert used.cpu_seconds > 0.3
    await keeper.kill("a")
    assert keeper.usage("a").memory_bytes == 0


async def test_descriptors_stay_constant(keeper, starter):
    """Two hundred starts and kills leave no descriptor and no zombie behind."""

    async def cycle():
        process = await starter.start(keeper, "a", "new_session.py")
        waiter = asyncio.create_task(wait_exit(process))
        await keeper.kill("a")
        assert (await waiter).signal == signal.SIGKILL

    await cycle()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        await cycle()
    assert len(os.listdir("/proc/self/fd")) == before
    await asyncio.sleep(0.05)
    assert [pid for pid in procfs.children() if "new_session" in str(procfs.stat(pid))] == []
    assert starter.living() == []


@pytest.mark.root
async def test_other_users_are_killed_too(keeper, starter, nobody):
    """An instance of another user ends whole, with what hid from its marks."""
    await starter.start(keeper, "a", "double_fork.py", "clean", "stay", account=nobody)
    await settled(starter, 2)
    await keeper.kill("a")
    assert starter.living() == []


@pytest.mark.root
async def test_who_drops_every_mark_is_found_as_an_orphan(keeper, starter, nobody):
    """A process without any mark, in no known session and without a parent, is recognised by its user."""
    await starter.start(keeper, "a", "hides.py", account=nobody)
    await settled(starter, 2)
    await keeper.kill("a")
    assert starter.living() == []


@pytest.mark.root
async def test_a_copied_mark_kills_nobody_elses_process(marked, starter, nobody):
    """Another user who puts an instance's marks on his own process can neither have it killed nor delay the kill."""
    await starter.start(marked, "a", "new_session.py", account=nobody)
    mark = mark_of(marked._runtime_dir, "a")
    stranger = copycat(mark)
    await settled(starter, 2)
    until(lambda: procfs.realtime_limit(stranger.pid) == realtime_limit(mark))
    async with asyncio.timeout(5):
        await marked.kill("a")
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.root
async def test_what_sudo_starts_belongs_to_the_instance(marked, starter, nobody):
    """A process that became root by way of the instance carries the limit and ends with it."""
    enrolment = marked.prepare("a", nobody.uid)
    launch = starter.launch("new_session.py", mark=enrolment.mark)  # as root, like the child of sudo
    await starter.spawn(launch)
    await settled(starter, 2)
    await marked.kill("a")
    assert starter.living() == []


async def test_without_the_limit_the_environment_still_tells(marked, starter):
    """A lab that lowered the limit, as audio programs do, is found by the mark in its environment."""
    lower = "import os, resource, time\nresource.setrlimit(resource.RLIMIT_RTTIME, (1000, 1000))\n"
    enrolment = marked.prepare("a", None)
    code = f"{lower}os.setsid() if os.fork() == 0 and os.fork() == 0 else None\ntime.sleep(1000)"
    launch = starter.launch("tells.py", mark=enrolment.mark, argv=(sys.executable, "-c", code, starter.needle))
    await starter.spawn(launch)
    await settled(starter, 3)
    await marked.kill("a")
    assert starter.living() == []


async def test_a_new_daemon_finds_what_an_old_one_left(runtime_dir, starter):
    """The marks are the same in each life of the daemon, so that a new one can end the instances of an old one."""
    old = MarkedTrees(runtime_dir)
    await starter.start(old, "a", "double_fork.py", "clean", "stay")
    await settled(starter, 2)
    old.close()
    new = MarkedTrees(runtime_dir)
    await eventually(lambda: len(new.pids("a")) == 2 and new.pids("a") == sorted(starter.living()))
    await new.kill("a")
    assert starter.living() == []
    new.close()


async def test_two_daemons_do_not_meet(keeper, starter, tmp_path):
    """An instance of the same name that another daemon runs is left alone."""
    await starter.start(keeper, "a", "new_session.py")
    await settled(starter, 2)
    other = type(keeper)(str(tmp_path), "/nowhere") if keeper.kind == "cgroup" else MarkedTrees(str(tmp_path))
    assert other.is_empty("a")
    await other.kill("a")
    assert len(starter.living()) == 2
    other.close()
    await keeper.kill("a")


async def test_the_reaper_leaves_other_peoples_children_alone(marked):
    """A child that a library started and waits for later is not buried behind its back."""
    child = library_child()
    until(lambda: procfs.stat(child.pid).gone)
    await asyncio.sleep(0.1)
    assert child.wait() == 7


async def test_orphans_are_buried(marked, starter):
    """An orphan that ends by itself leaves no zombie."""
    code = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(0.1)\n    os._exit(0)"
    )
    enrolment = marked.prepare("a", None)
    launch = starter.launch("tells.py", mark=enrolment.mark, argv=(sys.executable, "-c", code, starter.needle))
    process = await starter.spawn(launch)
    assert (await wait_exit(process)).clean
    await eventually(lambda: not any(is_ours(procfs.realtime_limit(pid)) for pid in marked._reaper.strays()))


async def test_looking_fails_loudly(marked, starter, monkeypatch):
    """Without descriptors nothing is called empty: the kill goes on when some are free again."""
    await starter.start(marked, "a", "new_session.py")
    await settled(starter, 2)
    real_open, started = os.open, time.monotonic()

    def short_of_descriptors(*args, **kwargs):
        if time.monotonic() - started < 0.6:
            raise OSError(24, "Too many open files")
        return real_open(*args, **kwargs)

    monkeypatch.setattr(procfs.os, "open", short_of_descriptors)
    with pytest.raises(OSError, match="Too many"):
        marked.is_empty("a")
    await marked.kill("a")
    monkeypatch.undo()
    assert time.monotonic() - started > 0.6
    assert starter.living() == []


@pytest.mark.root
@pytest.mark.parametrize("kind", ["forks all the time", "double fork", "stops itself"])
async def test_old_kernels_without_cgroup_kill(runtime_dir, starter, monkeypatch, kind):
    """Where the kernel cannot kill a cgroup at one stroke, it is emptied process by process."""
    keeper = choose_trees(runtime_dir)
    assert keeper.kind == "cgroup"
    monkeypatch.setattr(cgroup, "has_kill", lambda _: False)
    script, many = HOSTILE[kind]
    await starter.start(keeper, "a", *script)
    await settled(starter, many)
    async with asyncio.timeout(10):
        await keeper._empty("a", keeper._leaf("a"))
    assert starter.living() == []
    await keeper.kill("a")
    assert not os.path.exists(keeper._leaf("a"))
    keeper.close()


@pytest.mark.root
async def test_cgroups_that_a_lab_made_inside_are_covered(runtime_dir, starter):
    """Processes in cgroups that the instance itself made below its own end with it, and the cgroups go."""
    keeper = choose_trees(runtime_dir)
    process = await starter.start(keeper, "a", "new_session.py")
    await settled(starter, 2)
    leaf = Path(keeper._leaf("a"))
    (leaf / "inner" / "most").mkdir(parents=True)
    (leaf / "inner" / "most" / "cgroup.procs").write_text(str(process.pid))
    assert sorted(keeper.pids("a")) == sorted(starter.living())
    await keeper.kill("a")
    assert starter.living() == []
    assert not leaf.exists()
    keeper.close()
    assert not leaf.parent.exists()


@pytest.mark.root
async def test_who_left_the_cgroup_is_found(runtime_dir, starter):
    """A process that was moved out of the instance's cgroup, as a login session is, ends too."""
    keeper = choose_trees(runtime_dir)
    await starter.start(keeper, "a", "new_session.py")
    await settled(starter, 2)
    for pid in keeper.pids("a"):
        Path(cgroup.own_folder(), "cgroup.procs").write_text(str(pid))
    assert keeper.is_empty("a")
    assert len(starter.living()) == 2
    await keeper.kill("a")
    assert starter.living() == []
    keeper.close()


@pytest.mark.root
async def test_empty_cgroups_are_not_left(runtime_dir, starter):
    """A daemon that ends removes the leaves in which nothing runs, and leaves those of living labs alone."""
    keeper = choose_trees(runtime_dir)
    keeper.prepare("never-started", None)
    await starter.start(keeper, "a", "new_session.py")
    await settled(starter, 2)
    base = Path(keeper._base)
    keeper.close()
    assert [leaf.name for leaf in base.glob("lab-*")] == ["lab-a"]
    assert len(starter.living()) == 2
    keeper = choose_trees(runtime_dir)
    await keeper.kill("a")
    keeper.close()
    assert not base.exists()


async def test_what_cannot_be_written_is_not_chosen(runtime_dir, monkeypatch, tmp_path):
    """Where no cgroup can be made, or what looks like one is none, marks are chosen."""
    for folder in (None, "/proc/no/such/cgroup", str(tmp_path)):
        monkeypatch.setattr(cgroup, "own_folder", lambda folder=folder: folder)
        keeper = choose_trees(runtime_dir)
        assert keeper.kind == "marks"
        keeper.close()


async def test_a_process_that_does_not_die_is_named(marked, starter, monkeypatch, capsys):
    """While something does not die the log says what, and the kill goes on waiting for it."""
    await starter.start(marked, "a", "ignores_term.py")
    await settled(starter, 1)
    monkeypatch.setattr(hunt, "REPORT_EVERY_S", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(hunt.signal, "pidfd_send_signal", lambda *_: None)
        task = asyncio.create_task(marked.kill("a"))
        await asyncio.sleep(0.6)
        assert not task.done()
    await task
    said = capsys.readouterr().out
    assert "do not die" in said
    assert f"{starter.started[0].pid} python" in said
    assert starter.living() == []


async def test_many_deaths_at_once_drown_no_other_signal(marked, starter, capfd):
    """A thousand processes that die at a time neither fill Python's signal pipe nor lose the daemon's SIGTERM."""
    code = "import os, signal\nfor _ in range(600):\n    if os.fork() == 0: signal.pause()\nsignal.pause()"
    enrolment = marked.prepare("a", None)
    launch = starter.launch("tells.py", mark=enrolment.mark, argv=(sys.executable, "-S", "-c", code, starter.needle))
    await starter.spawn(launch)
    await settled(starter, 601)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
    for pid in starter.living():
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)  # noqa: ASYNC251  (the loop is to be busy elsewhere)
    os.kill(os.getpid(), signal.SIGUSR1)
    async with asyncio.timeout(5):
        await told.wait()
    await marked.kill("a")
    asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
    assert "wakeup" not in capfd.readouterr().err
