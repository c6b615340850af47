"""What a started process is born with."""

import asyncio
import dataclasses
import grp
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from rig.waiting import eventually

from jlabd.core.launch import Account, Launch
from jlabd.processes import claims, procfs
from jlabd.processes.exits import wait_exit


async def told(starter, launch, **descriptors):
    """Start the program that tells what it was born with; return that."""
    process = await starter.spawn(launch, **descriptors)
    assert (await wait_exit(process)).clean, starter.written()
    return json.loads(starter.written())


async def test_only_its_own_descriptors_are_open(each_starter):
    """The program has nothing to read, its log, the socket and the pipe, and nothing else of the daemon's."""
    stray = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(stray, True)
    reader, writer = os.pipe()
    with socket.socket() as listener:
        it = await told(each_starter, each_starter.launch("tells.py"), listen_fd=listener.fileno(), notify_fd=writer)
    for descriptor in (stray, reader, writer):
        os.close(descriptor)
    assert sorted(it["descriptors"]) == ["0", "1", "2", "3", "4"]
    assert it["descriptors"]["0"] == "/dev/null"
    assert it["descriptors"]["1"] == it["descriptors"]["2"] == str(each_starter.log)
    assert it["descriptors"]["3"].startswith("socket:")
    assert it["descriptors"]["4"].startswith("pipe:")


async def test_descriptors_may_have_any_number(starter):
    """It does not matter which numbers the daemon's descriptors have, even those that the program gets."""
    program = """
import asyncio, os, socket, sys
listener, (reader, writer) = socket.socket(), os.pipe()
os.dup2(writer, 0); os.dup2(listener.fileno(), 1); output = os.dup(2); os.close(2); os.dup2(output, 3)
from jlabd.core.launch import Launch
from jlabd.processes.spawn import spawn
from jlabd.processes.exits import wait_exit
async def main():
    launch = Launch((sys.executable, sys.argv[1]), {}, "/", None, 0o077)
    await wait_exit(await spawn(launch, listen_fd=1, output_fd=3, notify_fd=0))
asyncio.run(main())
"""
    shutil.copy(Path(__file__).parents[2] / "children" / "tells.py", starter.folder)
    with starter.log.open("wb") as log:
        argv = [sys.executable, "-c", program, str(starter.folder / "tells.py")]
        process = await asyncio.create_subprocess_exec(*argv, stderr=log)
        assert await process.wait() == 0
    it = json.loads(starter.written())["descriptors"]
    assert sorted(it) == ["0", "1", "2", "3", "4"]
    assert it["0"] == "/dev/null"
    assert it["1"] == it["2"] == str(starter.log)
    assert it["3"].startswith("socket:")
    assert it["4"].startswith("pipe:")


async def test_environment_is_exactly_the_given_one(each_starter):
    """Nothing of the daemon's environment is passed on; the mark and, with a socket, LISTEN_* are added."""
    odd = {"A": "100% $HOME 'quoted' \"x\" ü\n", "B": ""}
    with socket.socket() as listener:
        it = await told(each_starter, each_starter.launch("tells.py", env=odd, mark="m"), listen_fd=listener.fileno())
    listen = {"LISTEN_FDS": "1", "LISTEN_PID": str(it["pid"]), "LISTEN_FDNAMES": "http"}
    it["env"].pop("LC_CTYPE", None)  # added by Python itself
    assert it["env"] == {"PATH": os.defpath, "JLABD_MARK": "m"} | odd | listen


async def test_without_a_socket_no_listen_variables(each_starter):
    """LISTEN_* are given only with a socket."""
    it = await told(each_starter, each_starter.launch("tells.py"))
    assert not [name for name in it["env"] if name.startswith("LISTEN")]
    assert sorted(it["descriptors"]) == ["0", "1", "2"]


async def test_signals_are_as_if_newly_born(each_starter):
    """Whatever the daemon blocks, ignores or handles, the program starts with defaults."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN), signal.signal(signal.SIGHUP, lambda *_: None)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    try:
        launch = each_starter.launch("tells.py", argv=("/bin/cat", "/proc/self/status"))
        await wait_exit(await each_starter.spawn(launch))
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGTERM, signal.SIGCHLD}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGHUP, before[1])
    masks = dict(re.findall(r"^(Sig(?:Blk|Ign|Cgt)):\t(\w+)", each_starter.written(), re.MULTILINE))
    changeable = sum(1 << (number - 1) for number in signal.valid_signals())  # the C library keeps 32 and 33 for itself
    assert {name: int(mask, 16) & changeable for name, mask in masks.items()} == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}


async def test_it_has_a_session_of_its_own(each_starter):
    """The program leads its own session, in its folder, with its umask."""
    it = await told(each_starter, each_starter.launch("tells.py", umask=0o027))
    assert it["sid"] == it["pid"]
    assert it["cwd"] == str(each_starter.folder)
    assert it["umask"] == 0o027


async def test_limit_of_open_files(each_starter):
    """`open_files` becomes the soft and the hard limit."""
    launch = each_starter.launch("tells.py", argv=("/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"), open_files=99)
    await wait_exit(await each_starter.spawn(launch))
    assert each_starter.written() == "99\n99\n"


@pytest.mark.root
async def test_precedence_is_not_inherited(starter):
    """A daemon that is protected from the OOM killer, and favoured by the scheduler, starts ordinary programs."""
    program = f"""
import asyncio, os, sys
open("/proc/self/oom_score_adj", "w").write("-500"); os.nice(-5)
from jlabd.core.launch import Launch
from jlabd.processes.spawn import spawn
from jlabd.processes.exits import wait_exit
async def main():
    launch = Launch((sys.executable, {str(starter.folder)!r} + "/tells.py"), {{}}, "", None, 0)
    await wait_exit(await spawn(launch, listen_fd=None, output_fd=1))
asyncio.run(main())
"""
    starter.launch("tells.py")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=-1)
    it = json.loads((await process.communicate())[0])
    assert (it["oom"], it["nice"]) == (0, 0)


@pytest.mark.root
async def test_user_is_really_switched(each_starter, nobody):
    """All three user and group ids are the account's, the supplementary groups are exactly hers."""
    groups = tuple(sorted({nobody.gid, grp.getgrnam("mail").gr_gid, grp.getgrnam("games").gr_gid}))
    account = dataclasses.replace(nobody, groups=groups)
    it = await told(each_starter, each_starter.launch("tells.py", account=account, env={"HOME": "/nonexistent"}))
    assert it["uids"] == [nobody.uid] * 3
    assert it["gids"] == [nobody.gid] * 3
    assert it["groups"] == list(groups)
    assert it["env"]["HOME"] == "/nonexistent"


async def test_a_child_that_hangs_does_not_hold_up_the_loop(starter, monkeypatch):
    """While a child cannot enter its folder the loop goes on; calling the start off kills and buries the child."""
    from jlabd.processes import child

    steps = tuple((stage, (lambda _: time.sleep(1000)) if stage == "folder" else step) for stage, step in child.STEPS)
    monkeypatch.setattr(child, "STEPS", steps)
    known = set(procfs.children())
    before = len(os.listdir("/proc/self/fd"))
    task = asyncio.create_task(starter.spawn(starter.launch("tells.py")))
    ticks = 0
    for _ in range(20):
        await asyncio.sleep(0.005)
        ticks += 1
    (hanging,) = set(procfs.children()) - known
    assert ticks == 20
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: procfs.stat(hanging) is None)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not claims.is_claimed(hanging)


async def test_a_child_that_hangs_holds_none_of_the_daemons_connections(starter, monkeypatch):
    """A client of the daemon sees its connection closed although a child is stuck before its program."""
    from jlabd.processes import child

    steps = tuple((stage, (lambda _: time.sleep(1000)) if stage == "folder" else step) for stage, step in child.STEPS)
    monkeypatch.setattr(child, "STEPS", steps)
    ours, client = socket.socketpair()
    task = asyncio.create_task(starter.spawn(starter.launch("tells.py")))
    await asyncio.sleep(0.2)
    ours.close()
    client.settimeout(2)
    assert client.recv(1) == b""
    client.close()
    task.cancel()
    await asyncio.wait([task])


async def test_the_child_never_runs_the_parents_exit_handlers(starter, capfd):
    """A child that fails, even in an unforeseen way, leaves without a trace of the parent's business."""
    program = """
import asyncio, atexit, os
atexit.register(print, "handler of", os.getpid(), flush=True)
print("buffered", os.getpid(), end=" ")
from jlabd.core.launch import Launch
from jlabd.processes import child
from jlabd.processes.spawn import SpawnError, spawn
def break_down(_): raise KeyError("surprise")
child.STEPS = ((child.Stage.LIMITS, break_down),)
async def main():
    try:
        await spawn(Launch(("/bin/true",), {}, "/", None, 0), listen_fd=None, output_fd=1)
    except SpawnError as error:
        print(error.permanent, error.reason)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=-1)
    said = (await process.communicate())[0].decode()
    assert said.count("buffered") == said.count("handler of") == 1
    assert "unforeseen way (limits): KeyError('surprise')" in said


def test_account_is_a_plain_value():
    """An account and a launch can be compared and hold no secret in their repr."""
    account = Account("a", 1, 1, (1,), "/", "/bin/sh")
    assert "SECRET" not in repr(Launch(("x",), {"K": "SECRET"}, "/", account, 0))
