"""Limits and what the kernel announces of cgroups, as far as that can be seen where controllers are missing.

That they hold is tested where they are there: tests/packaging/test_limits.py.
"""

import asyncio
import errno
import os
import stat
import threading
import time
from pathlib import Path

import pytest
from rig.waiting import eventually

from jlabd.processes import cgroup, cgroup_events, controllers, enforcement
from jlabd.processes.cgroup_events import EventsWatch, MemoryWatch
from jlabd.processes.cgroup_trees import make_leaf
from jlabd.processes.choice import choose_trees
from jlabd.processes.exits import Exit
from jlabd.processes.tree import MemoryKill
from jlabd.spec import Limits

ALL = Limits(memory_max=3 << 30, memory_high=(2 << 30) + 5, cpu_quota=1.5, tasks_max=9)


class Kernel:
    """A folder that behaves like a cgroup as far as controllers go."""

    def __init__(self, folder, has="cpu memory pids"):
        self.folder = folder
        self.written = []
        self.put("cgroup.controllers", has)
        self.put("cgroup.subtree_control", "")
        self.put("cgroup.type", "domain")
        self.put("cgroup.procs", "")

    def put(self, name, text):
        (self.folder / name).write_text(f"{text}\n")

    def write(self, path, data):
        """Do as `cgroup.write` does."""
        path, text = Path(path), data.decode()
        self.written.append((path.name, text))
        if text == "+pids":
            raise OSError(errno.ENOENT, "no such controller")
        if path.name == "cgroup.subtree_control":
            text = f"{path.read_text().strip()} {text.removeprefix('+')}"
        self.put(path.relative_to(self.folder), text)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    made = Kernel(tmp_path)
    monkeypatch.setattr(cgroup, "write", made.write)
    return made


def test_what_limits_need():
    """Each limit needs a controller, no limit needs none."""
    assert controllers.needed(Limits()) == frozenset()
    assert controllers.needed(ALL) == {"cpu", "memory", "pids"}
    assert controllers.needed(Limits(memory_high=1 << 20)) == {"memory"}


def test_limits_as_the_kernel_spells_them(kernel):
    """Values are written in whole pages and with the period, those in force already are not, nor what has no file."""
    for name in ("memory.high", "memory.max", "cpu.max"):
        kernel.put(name, "max")
    controllers.set_limits(str(kernel.folder), ALL)
    expected = [("memory.high", str(2 << 30)), ("memory.max", str(3 << 30)), ("cpu.max", "150000 100000")]
    assert kernel.written == expected
    controllers.set_limits(str(kernel.folder), ALL)
    assert kernel.written == expected
    controllers.set_limits(str(kernel.folder), Limits())
    assert kernel.written[3:] == [("memory.high", "max"), ("memory.max", "max"), ("cpu.max", "max 100000")]


def test_controllers_are_handed_down(kernel):
    """What can be handed down is, each for itself: one that the kernel refuses keeps no other back."""
    assert controllers.hand_down(str(kernel.folder)) == {"cpu", "memory"}
    assert controllers.hand_down(str(kernel.folder)) == {"cpu", "memory"}
    assert [text for _, text in kernel.written] == ["+cpu", "+memory", "+pids", "+pids"]


def test_nothing_is_handed_down_over_the_heads_of_processes(kernel):
    """Where processes are, systemd must be able to start more; only the topmost cgroup may have both."""
    kernel.put("cgroup.procs", "7")
    assert controllers.hand_down(str(kernel.folder)) == frozenset()
    assert kernel.written == []
    (kernel.folder / "cgroup.type").unlink()
    assert controllers.hand_down(str(kernel.folder)) == {"cpu", "memory"}


@pytest.mark.root
async def test_limits_do_not_overtake_each_other(runtime_dir, monkeypatch):
    """While the kernel takes its time to enforce one limit, later ones wait, and the last one wins."""
    keeper = choose_trees(runtime_dir)
    if keeper.kind != "cgroup":
        pytest.skip("NO CGROUP V2 that can be written here")
    go, begun, done = threading.Event(), threading.Event(), []

    def set_limits(_leaf, limits):
        begun.set()
        go.wait(5)
        done.append(limits.tasks_max)

    keeper.prepare("a", None)
    monkeypatch.setattr(controllers, "set_limits", set_limits)
    first = asyncio.create_task(keeper.limit("a", Limits(tasks_max=1)))
    await eventually(begun.is_set)
    for number in (2, 3, 4):
        await keeper.limit("a", Limits(tasks_max=number))
    assert done == []
    go.set()
    await first
    assert done == [1, 4]
    await keeper.kill("a")
    keeper.close()


@pytest.mark.root
def test_everybody_may_read_a_leaf(runtime_dir):
    """Whatever the umask of the daemon, programs can look up their limits; nobody else can change them."""
    before = os.umask(0o077)
    leaf = Path(f"{cgroup.own_folder()}/{Path(runtime_dir).name}/lab-a")
    try:
        os.close(make_leaf(str(leaf)))
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in (leaf, leaf.parent)] == [0o755, 0o755]
    finally:
        os.umask(before)
        cgroup.remove(str(leaf.parent))


@pytest.mark.root
async def test_a_cgroup_that_somebody_removed(runtime_dir):
    """The files of a cgroup that is gone announce changes for ever: that is noticed once and costs nothing."""
    leaf = Path(f"{cgroup.own_folder()}/{Path(runtime_dir).name}")
    leaf.mkdir()
    events, called = cgroup.open_events(str(leaf)), []
    watch = EventsWatch()
    watch.watch(events, lambda: called.append(1))
    leaf.rmdir()
    await asyncio.sleep(0.1)
    assert len(called) <= 1
    assert not cgroup.is_populated(events)
    assert await watch.emptied(events, 1)
    watch.unwatch(events)
    os.close(events)
    watch.close()


class Nobody:
    """Stands in for EventsWatch: what the kernel announces, the test announces itself."""

    def watch(self, *_):
        """Do nothing."""

    unwatch = watch


class Leaf:
    """A leaf whose memory.events says what the test wants."""

    def __init__(self, folder):
        self.folder = folder
        self.told = []
        self.watch = MemoryWatch(Nobody(), self.told.append)
        self.says(0, 0)
        (folder / "memory.max").write_text(f"{2 << 30}\n")

    def says(self, oom, killed):
        (self.folder / "memory.events").write_text(f"low 0\nhigh 0\nmax 9\noom {oom}\noom_kill {killed}\n")

    def follow(self):
        self.watch.follow("a", str(self.folder))


@pytest.fixture
def leaf(tmp_path):
    return Leaf(tmp_path)


def test_a_limit_that_is_reached_before_the_kill(leaf):
    """A look between the two announcements of the kernel does not hide that the limit was the cause."""
    leaf.follow()
    leaf.says(1, 0)
    leaf.watch.look("a")
    assert leaf.told == []
    leaf.says(1, 2)
    assert leaf.watch.just_now("a") == MemoryKill("a", 2, 2 << 30)
    leaf.says(2, 3)
    leaf.watch.leave("a")
    assert leaf.told == [MemoryKill("a", 2, 2 << 30), MemoryKill("a", 1, 2 << 30)]
    assert leaf.watch.totals == {"a": 3}


def test_a_machine_without_memory(leaf, monkeypatch):
    """A kill is not the limit's doing if that was reached long ago, or never."""
    leaf.follow()
    leaf.says(1, 1)
    leaf.watch.look("a")
    monkeypatch.setattr(cgroup_events, "_JUST_NOW_S", 0.01)
    time.sleep(0.02)
    leaf.says(1, 2)
    leaf.watch.look("a")
    assert [kill.limit for kill in leaf.told] == [2 << 30, None]


def test_what_happened_before(leaf, monkeypatch):
    """What an earlier daemon saw is not told again, what is over is no reason, and a leaf that is gone has no news."""
    leaf.says(4, 4)
    leaf.follow()
    assert leaf.watch.just_now("a") is None
    leaf.says(5, 5)
    assert leaf.watch.just_now("a") is not None
    monkeypatch.setattr(cgroup_events, "_JUST_NOW_S", 0)
    assert leaf.watch.just_now("a") is None
    leaf.says(6, 6)
    leaf.watch.close()
    leaf.watch.look("a")
    assert leaf.watch.totals == {"a": 1}


def test_how_a_server_ended_for_want_of_memory():
    """The kernel's kill is the reason of a server that it hit, and said beside the status of one that gave up."""
    kill = MemoryKill("a", 1, 150 << 20)
    assert Exit(None, 9).describe(kill) == "was killed by the kernel: memory limit 150 MiB"
    assert Exit(None, None).describe(kill) == "was killed by the kernel: memory limit 150 MiB"
    assert Exit(0, None).describe(kill) == "exited with status 0"
    assert Exit(1, None).describe(kill) == (
        "exited with status 1, just after a process of it was killed by the kernel: memory limit 150 MiB"
    )
    assert MemoryKill("a", 1, (2 << 30) + (1 << 29)).describe() == "killed by the kernel: memory limit 2.5 GiB"
    assert "the machine, or all labs together" in MemoryKill("a", 1, None).describe()


def test_what_the_machine_lacks(kernel, monkeypatch):
    """Limits that nothing here can enforce are named with whose they are and what helps."""
    monkeypatch.setattr(cgroup, "mount_points", lambda: [str(kernel.folder)])
    limits = {name: Limits(tasks_max=5) for name in "abcd"} | {"e": Limits(memory_max=1 << 30), "f": Limits()}
    assert enforcement.machine_lacks(limits) == []
    kernel.put("cgroup.controllers", "cpu memory")
    (lack,) = enforcement.machine_lacks(limits)
    assert lack.sentence == "tasks_max of a, b, c and 1 more have no effect: cgroup v2 lacks the controller “pids”"
    assert "systemd.unified_cgroup_hierarchy=1" in lack.fix


def test_what_the_daemon_lacks(kernel, monkeypatch):
    """Limits that the machine could enforce and the daemon's place cannot are named with the unit that helps."""
    unit = kernel.folder / "jlabd.service"
    unit.mkdir()
    Kernel(unit)
    monkeypatch.setattr(cgroup, "mount_points", lambda: [str(kernel.folder)])
    monkeypatch.setattr(cgroup, "folder_of", lambda _: str(unit))
    limits = {"a": Limits(memory_max=1 << 30)}
    (lack,) = enforcement.daemon_lacks(limits, "/run/jlabd", 7)
    assert (
        lack.sentence
        == "memory_max and memory_high of a have no effect: the labs' cgroup lacks the controller “memory”"
    )
    assert "install jlabd-labs.service" in lack.fix
    monkeypatch.setattr(cgroup, "folder_of", lambda _: None)
    (lack,) = enforcement.daemon_lacks(limits, "/run/jlabd", 7)
    assert "run jlabd as jlabd.service" in lack.fix


def test_remedies():
    """What helps depends on where the labs' cgroups are."""
    labs = "/sys/fs/cgroup/system.slice/jlabd-labs.service"
    assert "its log says" in enforcement.remedy(labs, there=True)
    assert "Delegate=yes back into jlabd-labs.service" in enforcement.remedy(labs, there=False)
    assert "run jlabd as jlabd.service" in enforcement.remedy("/sys/fs/cgroup/user.slice/session-1.scope", there=False)
