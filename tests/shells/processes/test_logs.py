"""Logs: who may not tamper with them, and rotation that loses nothing."""

import asyncio
import fcntl
import gzip
import os
import sys
import time

import pytest
from rig.logs import SMALL, backups, everything, flood, lines_of, write

from jlabd.processes import rotation
from jlabd.processes.exits import wait_exit
from jlabd.processes.logs import LogError, Logs, open_log, tail
from jlabd.spec import LogSpec

# Opening


def test_a_log_is_for_appending_and_private(log_dir):
    """The file is made with mode 0600, appended to, and closed in other programs."""
    descriptor = open_log(str(log_dir), "a")
    assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & (os.O_APPEND | os.O_NONBLOCK) == os.O_APPEND
    assert not os.get_inheritable(descriptor)
    assert os.fstat(descriptor).st_mode & 0o7777 == 0o600
    os.close(descriptor)
    (log_dir / "a.log").chmod(0o644)
    write(log_dir, b"x")
    assert (log_dir / "a.log").stat().st_mode & 0o7777 == 0o600


def test_missing_folders_are_made(log_dir):
    """The log folder is made, closed to others."""
    write(log_dir / "new" / "er", b"x")
    assert (log_dir / "new" / "er").stat().st_mode & 0o007 == 0


def test_a_symbolic_link_is_refused(log_dir, tmp_path):
    """A log replaced by a symbolic link is not written through, and the error says what to do."""
    victim = tmp_path / "victim"
    victim.write_text("safe")
    (log_dir / "a.log").symlink_to(victim)
    with pytest.raises(LogError, match="symbolic link there, remove it"):
        open_log(str(log_dir), "a")
    assert victim.read_text() == "safe"
    assert tail(str(log_dir), "b", 1) == b""


def test_a_hard_link_is_refused(log_dir, tmp_path):
    """A log that is another name of some file is not written to."""
    victim = tmp_path / "victim"
    victim.write_text("safe")
    (log_dir / "a.log").hardlink_to(victim)
    mode = victim.stat().st_mode
    with pytest.raises(LogError, match="hard link"):
        open_log(str(log_dir), "a")
    assert victim.stat().st_mode == mode


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused(log_dir, make):
    """A pipe or folder in the log's place is refused at once, without waiting for a reader."""
    make(log_dir / "a.log")
    with pytest.raises(LogError):
        open_log(str(log_dir), "a")


def test_a_folder_that_others_can_write_to_is_refused(log_dir):
    """In a folder that others can write to nobody's log is safe."""
    log_dir.chmod(0o777)
    with pytest.raises(LogError, match="Others can write to the log folder"):
        open_log(str(log_dir), "a")


@pytest.mark.root
def test_somebody_elses_file_and_folder_are_refused(log_dir):
    """A log or a log folder that belongs to a user is refused."""
    write(log_dir, b"x")
    os.chown(log_dir / "a.log", 65534, 65534)
    with pytest.raises(LogError, match="belongs to another user"):
        open_log(str(log_dir), "a")
    os.chown(log_dir, 65534, 65534)
    with pytest.raises(LogError, match="Others can write"):
        open_log(str(log_dir), "b")


# Rotation


def can_cut(log_dir):
    """Return whether the file system below can cut a head off in place."""
    descriptor = open_log(str(log_dir), "probe")
    try:
        return rotation._can_collapse(descriptor)
    finally:
        os.close(descriptor)
        (log_dir / "probe.log").unlink()


async def test_rotation_under_a_flood_loses_no_line(log_dir, starter):
    """While lines are written as fast as can be, rotation again and again loses and doubles none of them."""
    if not can_cut(log_dir):
        pytest.skip("NO COLLAPSE_RANGE on the file system of the test folder")
    logs = Logs(str(log_dir))
    process = await flood(starter, log_dir, 300_000, 100)
    waiter = asyncio.create_task(wait_exit(process))
    while not waiter.done():
        await logs.rotate_if_needed("a", SMALL)
        await asyncio.sleep(0)
    assert (await waiter).clean
    await logs.rotate_if_needed("a", SMALL)
    assert len(backups(log_dir)) > 10
    assert everything(log_dir).split(b"\n")[:-1] == lines_of(300_000, 100)
    assert (log_dir / "a.log").stat().st_size < SMALL.max_size


async def test_rotation_where_the_head_cannot_be_cut(memory_dir, starter):
    """On other file systems lines arrive in order, none twice, and next to none is lost under a flood."""
    assert not can_cut(memory_dir)
    logs = Logs(str(memory_dir))
    process = await flood(starter, memory_dir, 300_000, 100)
    waiter = asyncio.create_task(wait_exit(process))
    while not waiter.done():
        await logs.rotate_if_needed("a", SMALL)
        await asyncio.sleep(0)
    written = set(lines_of(300_000, 100))  # what a cut goes through is no line any more: it counts as lost
    numbers = [int(line[:9]) for line in everything(memory_dir).split(b"\n")[:-1] if line in written]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 300_000 * (0.999 if os.geteuid() == 0 else 0.8)
    assert len(backups(memory_dir)) > 2


async def test_a_calm_log_is_all_there_anywhere(memory_dir, starter):
    """Where the head cannot be cut, a thousand lines a second lose at most the one written in that very moment."""
    logs = Logs(str(memory_dir))
    process = await flood(starter, memory_dir, 2000, 500, 0.001)
    waiter = asyncio.create_task(wait_exit(process))
    while not waiter.done():
        await logs.rotate_if_needed("a", SMALL)
        await asyncio.sleep(0)
    lines, written = everything(memory_dir).split(b"\n")[:-1], lines_of(2000, 500)
    assert len(backups(memory_dir)) >= 2
    assert lines == [line for line in written if line in set(lines)]
    assert len(lines) >= 2000 - len(backups(memory_dir))


@pytest.mark.parametrize("where", ["log_dir", "memory_dir"])
async def test_backups_are_kept_and_compressed(where, request):
    """`keep` backups stay, all but the first compressed, and together they are the end of what was written."""
    folder = request.getfixturevalue(where)
    logs = Logs(str(folder))
    spec = LogSpec(max_size=64 * 1024, keep=3, compress=True)
    written = b""
    for number in range(8):
        data = b"%d" % number * 70_000 + b"\n"
        written += data
        write(folder, data)
        assert await logs.rotate_if_needed("a", spec)
    assert [path.name for path in backups(folder)] == ["a.log.3.gz", "a.log.2.gz", "a.log.1"]
    kept = everything(folder)
    assert len(kept) > 3 * 60_000
    assert written.endswith(kept)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in backups(folder))


@pytest.mark.parametrize("where", ["log_dir", "memory_dir"])
async def test_without_backups_the_head_goes(where, request):
    """With `keep` 0 the log is only kept short."""
    folder = request.getfixturevalue(where)
    write(folder, b"x" * 400_000 + b"\nlast\n")
    assert await Logs(str(folder)).rotate_if_needed("a", LogSpec(max_size=100_000, keep=0))
    assert backups(folder) == []
    assert (folder / "a.log").stat().st_size < 100_000


async def test_fewer_backups_than_before(log_dir):
    """When `keep` was lowered the surplus goes."""
    for number in range(2, 7):
        (log_dir / f"a.log.{number}.gz").write_bytes(gzip.compress(b"old"))
    (log_dir / "b.log.5").write_bytes(b"a neighbour's")
    write(log_dir, b"x" * 400_000)
    await Logs(str(log_dir)).rotate_if_needed("a", LogSpec(max_size=300_000, keep=2))
    assert [path.name for path in backups(log_dir)] == ["a.log.1"]
    assert (log_dir / "b.log.5").exists()


async def test_a_short_log_is_left_alone(log_dir):
    """Nothing happens before the log has its length, and never with max_size 0."""
    write(log_dir, b"x" * 1000)
    assert not await Logs(str(log_dir)).rotate_if_needed("a", LogSpec(max_size=1001))
    assert not await Logs(str(log_dir)).rotate_if_needed("a", LogSpec(max_size=0))
    assert not await Logs(str(log_dir)).rotate_if_needed("missing", LogSpec(max_size=1))
    assert sorted(path.name for path in log_dir.iterdir()) == ["a.log"]


async def test_a_full_disk_loses_nothing(log_dir, monkeypatch, capsys):
    """When the copy does not fit, the log stays as it is, the reason is told, and nothing half-made is left."""
    write(log_dir, b"x" * 400_000)
    resource_limit = "import resource, sys, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
    program = f"{resource_limit}sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"

    async def cramped(argv, timeout_s, env=None):
        return await run([sys.executable, "-c", program, *argv[3:]], timeout_s)

    from jlabd.processes import logs as room
    from jlabd.processes.command import run

    monkeypatch.setattr(room, "run", cramped)
    logs = Logs(str(log_dir))
    assert not await logs.rotate_if_needed("a", SMALL)
    assert "goes on growing" in capsys.readouterr().out
    assert everything(log_dir) == b"x" * 400_000
    assert sorted(path.name for path in log_dir.iterdir() if not path.name.endswith(".lock")) == ["a.log"]
    monkeypatch.undo()
    assert not await logs.rotate_if_needed("a", SMALL), "tried again too early"
    assert await Logs(str(log_dir)).rotate_if_needed("a", SMALL)
    assert everything(log_dir) == b"x" * 400_000


def test_a_disk_that_is_nearly_full_is_left_alone(log_dir, monkeypatch, capsys):
    """What will not fit is not even begun."""
    write(log_dir, b"x" * 400_000)
    real = os.fstatvfs

    def full(descriptor):
        found = real(descriptor)
        return os.statvfs_result((*found[:3], 10, 10, *found[5:]))

    monkeypatch.setattr(rotation.os, "fstatvfs", full)
    monkeypatch.chdir(log_dir)
    assert rotation.main(["cut", str(log_dir), "a", "300000", "5"]) == 1
    assert "The disk of the logs is full" in capsys.readouterr().err
    assert everything(log_dir) == b"x" * 400_000


@pytest.mark.parametrize("where", ["log_dir", "memory_dir"])
@pytest.mark.parametrize("moment", ["before the cut", "after the cut"])
def test_a_crash_in_the_middle_loses_and_doubles_nothing(where, moment, request, monkeypatch):
    """A rotation that dies around the cut is brought to its end by the next one."""
    folder = request.getfixturevalue(where)
    monkeypatch.chdir(folder)
    content = b"".join(b"%07d\n" % number for number in range(50_000))
    write(folder, content)

    class Crash(BaseException):
        pass

    def crash(*_):
        raise Crash

    doomed = "_promote" if moment == "after the cut" else "_collapse" if where == "log_dir" else None
    with monkeypatch.context() as patch:
        if doomed:
            patch.setattr(rotation, doomed, crash)
        else:
            patch.setattr(rotation.os, "ftruncate", crash)
        with pytest.raises(Crash):
            rotation.cut("a", 100_000, 9)
    write(folder, b"later\n")
    rotation.cut("a", 100_000, 9)
    assert everything(folder) == content + b"later\n"
    assert not list(folder.glob(".*cut"))


@pytest.mark.parametrize("where", ["log_dir", "memory_dir"])
async def test_holes_are_not_kept(where, request):
    """A program that moves its own write position far ahead fills neither the disk nor the backups."""
    folder = request.getfixturevalue(where)
    descriptor = open_log(str(folder), "a")
    fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)
    os.pwrite(descriptor, b"one\n", 1 << 20)
    os.pwrite(descriptor, b"two\n", 500 << 30)
    os.close(descriptor)
    started = time.monotonic()
    await Logs(str(folder)).rotate_if_needed("a", SMALL)
    assert time.monotonic() - started < 5
    assert sum(path.stat().st_blocks * 512 for path in folder.iterdir()) < 1 << 20
    assert everything(folder).replace(b"\0", b"") == b"one\ntwo\n"


async def test_a_link_in_the_logs_place_is_not_rotated(log_dir, tmp_path):
    """Rotation cuts nothing off a file that a symbolic link leads to."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * 1_000_000)
    (log_dir / "a.log").symlink_to(victim)
    assert not await Logs(str(log_dir)).rotate_if_needed("a", LogSpec(max_size=10))
    assert rotation.main(["cut", str(log_dir), "a", "10", "5"]) == 1
    assert victim.stat().st_size == 1_000_000
