"""What an instance may be denied or given alone: rights by sudo and its like, and a /tmp of its own."""

import asyncio
import sys
import uuid
from pathlib import Path

import pytest
from rig.waiting import eventually

from jlabd.core.launch import PRIVATE_FOLDERS
from jlabd.processes.exits import wait_exit


def script(starter, text, **more):
    """Return the launch of a shell script that reads and writes nothing below /tmp by itself."""
    return starter.launch("tells.py", argv=("/bin/sh", "-c", text, starter.needle), cwd="/", **more)


async def said_by(starter, text, **more):
    """Run a shell script to its end; return what it printed."""
    process = await starter.spawn(script(starter, text, **more))
    assert (await wait_exit(process)).clean, starter.written()
    return starter.written()


@pytest.fixture
def strangers_files():
    """Files that somebody else has in each of the folders."""
    files = [Path(folder, f"jl-{uuid.uuid4().hex}") for folder in PRIVATE_FOLDERS]
    for file in files:
        file.touch()
    yield files
    for file in files:
        file.unlink()


@pytest.mark.parametrize("wanted", [True, False])
async def test_no_new_privileges(starter, wanted):
    """A program that gives rights gives none where that is asked for, and only there."""
    said = await said_by(starter, "grep NoNewPrivs /proc/self/status", no_new_privileges=wanted)
    assert said.split() == ["NoNewPrivs:", str(int(wanted))]


@pytest.mark.root
async def test_a_tmp_of_its_own(starter, nobody, strangers_files):
    """The instance sees nobody else's temporary files, its user may make some, and nobody else sees them."""
    text = "".join(f"ls -A {folder}; touch {folder}/mine; stat -c %a {folder}; " for folder in PRIVATE_FOLDERS)
    said = await said_by(starter, text, account=nobody, private_tmp=True)
    assert said.split() == ["1777", "1777"]
    assert not any(Path(folder, "mine").exists() for folder in PRIVATE_FOLDERS)
    assert all(file.exists() for file in strangers_files)


@pytest.mark.root
async def test_a_tmp_of_its_own_ends_with_it(keeper, starter, nobody):
    """Nothing is left mounted when the tree is killed, and no other process ever saw it mounted."""
    before = Path("/proc/self/mountinfo").read_text()
    enrolment = keeper.prepare("a", nobody.uid)
    launch = script(starter, "setsid sleep 1000 & echo up; wait", account=nobody, private_tmp=True, mark=enrolment.mark)
    process = await starter.spawn(launch, cgroup_fd=enrolment.cgroup_fd)
    await eventually(lambda: starter.written() == "up\n" and len(keeper.pids("a")) == 2)
    assert Path(f"/proc/{process.pid}/mountinfo").read_text().count(" - tmpfs tmpfs ") > before.count(" - tmpfs tmpfs ")
    assert Path("/proc/self/mountinfo").read_text() == before
    await keeper.kill("a")
    assert keeper.is_empty("a")
    assert Path("/proc/self/mountinfo").read_text() == before


async def test_a_tmp_that_may_not_be_made():
    """A daemon that may mount nothing says so, with the key to change."""
    program = """
import asyncio, os
from jlabd.core.launch import Launch
from jlabd.processes.spawn import SpawnError, spawn
if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)
async def main():
    try:
        await spawn(Launch(("/bin/true",), {}, "/", None, 0, private_tmp=True), listen_fd=None, output_fd=1)
    except SpawnError as error:
        print(error.permanent, error.reason)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=-1)
    said = (await process.communicate())[0].decode()
    assert said.startswith("True Cannot give the instance a /tmp of its own: jlabd may not mount anything"), said
    assert "private_tmp = false" in said
