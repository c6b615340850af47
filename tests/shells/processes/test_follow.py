"""Logs: their ends, and following them while they are rotated."""

import asyncio
import os
import time

import pytest
from rig.logs import SMALL, backups, everything, flood, write
from rig.waiting import eventually

from jlabd.processes.exits import wait_exit
from jlabd.processes.logs import TAIL_LIMIT, Logs, tail
from jlabd.spec import LogSpec


def test_tail_returns_whole_lines(log_dir):
    """The last lines, in order, an unfinished one too; of bytes that are no text as well."""
    lines = [b"line %d \xff\xfe" % number for number in range(100_000)]
    write(log_dir, b"\n".join(lines) + b"\n")
    assert tail(str(log_dir), "a", 3) == b"\n".join(lines[-3:]) + b"\n"
    assert tail(str(log_dir), "a", 20_000) == b"\n".join(lines[-20_000:]) + b"\n"
    assert tail(str(log_dir), "a", 10**9) == b"\n".join(lines) + b"\n"
    write(log_dir, b"unfinished")
    assert tail(str(log_dir), "a", 2) == lines[-1] + b"\nunfinished"
    assert tail(str(log_dir), "a", 0) == b""


def test_tail_of_lines_of_a_megabyte(log_dir):
    """Very long lines come whole as long as they fit into the limit; the end of them comes in any case."""
    line = b"x" * (1 << 20) + b"\n"
    write(log_dir, line * 3)
    assert tail(str(log_dir), "a", 2) == line * 2
    write(log_dir, b"y" * (TAIL_LIMIT + 5))
    assert tail(str(log_dir), "a", 1) == b"y" * TAIL_LIMIT


def test_tail_of_a_huge_log_is_quick(log_dir):
    """The length of the log does not matter."""
    with (log_dir / "a.log").open("wb") as file:
        file.truncate(100 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\none\ntwo\n")
    started = time.monotonic()
    assert tail(str(log_dir), "a", 2) == b"one\ntwo\n"
    assert time.monotonic() - started < 0.05


async def test_tail_reaches_into_the_last_backup(log_dir):
    """Right after a rotation the last lines are still there."""
    lines = [b"line %06d" % number for number in range(50_000)]
    write(log_dir, b"\n".join(lines) + b"\n")
    await Logs(str(log_dir)).rotate_if_needed("a", LogSpec(max_size=300_000, keep=5))
    assert backups(log_dir)
    assert tail(str(log_dir), "a", 20_000) == b"\n".join(lines[-20_000:]) + b"\n"


async def gather(stream, into):
    """Append all that a follower yields."""
    async for piece in stream:
        into += piece


@pytest.mark.parametrize("where", ["log_dir", "memory_dir"])
async def test_a_follower_sees_every_byte_across_rotations(where, request, starter):
    """Following a log that is rotated again and again under load yields exactly what was written."""
    folder = request.getfixturevalue(where)
    logs = Logs(str(folder))
    write(folder, b"before\nfirst\n")
    seen = bytearray()
    task = asyncio.create_task(gather(logs.follow("a", 1), seen))
    await eventually(lambda: seen == b"first\n")
    process = await flood(starter, folder, 300_000, 100)
    waiter = asyncio.create_task(wait_exit(process))
    while not waiter.done():
        await logs.rotate_if_needed("a", SMALL)
        await asyncio.sleep(0.01)
    expected = everything(folder).removeprefix(b"before\n")
    await eventually(lambda: len(seen) >= len(expected), 20)
    task.cancel()
    await asyncio.wait([task])
    assert bytes(seen) == expected
    assert len(backups(folder)) > 2


async def test_a_follower_survives_truncation_deletion_and_replacement(log_dir):
    """A log that is emptied, deleted or replaced by a new one is followed on."""
    path = log_dir / "a.log"
    seen = bytearray()
    task = asyncio.create_task(gather(Logs(str(log_dir)).follow("a", 10), seen))
    await asyncio.sleep(0.05)
    write(log_dir, b"one\n")
    await eventually(lambda: seen == b"one\n")
    os.truncate(path, 0)
    await asyncio.sleep(0.3)
    write(log_dir, b"two\n")
    await eventually(lambda: seen == b"one\ntwo\n")
    path.rename(log_dir / "elsewhere")
    with (log_dir / "elsewhere").open("ab") as still_open:
        still_open.write(b"three\n")
    write(log_dir, b"four\n")
    await eventually(lambda: seen == b"one\ntwo\nthree\nfour\n")
    path.unlink()
    await asyncio.sleep(0.3)
    write(log_dir, b"five\n")
    await eventually(lambda: seen.endswith(b"five\n"))
    task.cancel()
    await asyncio.wait([task])


async def test_a_follower_that_goes_leaves_nothing(log_dir):
    """A follower whose reader goes away closes the log."""
    write(log_dir, b"one\n")
    before = len(os.listdir("/proc/self/fd"))
    stream = Logs(str(log_dir)).follow("a", 1)
    assert await anext(stream) == b"one\n"
    await stream.aclose()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_rotation_does_not_hold_up_the_loop(log_dir):
    """While fifty megabytes are copied and compressed the event loop is never held up for long."""
    write(log_dir, os.urandom(1 << 20) * 50)
    longest = 0.0

    async def watch():
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - began)

    watcher = asyncio.create_task(watch())
    assert await Logs(str(log_dir)).rotate_if_needed("a", LogSpec(max_size=20 << 20, keep=3))
    watcher.cancel()
    assert longest < 0.25
    assert [path.name for path in backups(log_dir)] == ["a.log.2.gz", "a.log.1"]
