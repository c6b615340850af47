"""What is said when no process came to be."""

import asyncio
import errno
import os
import resource
import shutil
import sys
from pathlib import Path

import pytest
from rig.waiting import eventually

from jlabd.processes import claims, procfs
from jlabd.processes import spawn as spawning
from jlabd.processes.exits import wait_exit
from jlabd.processes.spawn import SpawnError, spawn


async def refusal(starter, launch, **descriptors):
    """Try to start what cannot be started; return the error, after seeing that no child is left."""
    before, earlier = set(os.listdir("/proc/self/fd")), set(procfs.children())
    with pytest.raises(SpawnError) as caught:
        await starter.spawn(launch, **descriptors)
    await eventually(lambda: not any(claims.is_claimed(pid) for pid in set(procfs.children()) - earlier))
    assert set(os.listdir("/proc/self/fd")) == before
    return caught.value


async def outcome_of(start):
    """Return whether a start succeeded; see the process to its end."""
    try:
        process = await start
    except SpawnError:
        return "refused"
    assert (await wait_exit(process)).clean
    return "started"


@pytest.mark.root
async def test_a_folder_that_only_root_may_enter_is_refused(each_starter, nobody):
    """The folder is entered with the user's rights, and the sentence names the folder that stopped her."""
    closed = each_starter.folder / "closed"
    (closed / "work").mkdir(parents=True)
    closed.chmod(0o700)
    error = await refusal(each_starter, each_starter.launch("tells.py", account=nobody, cwd=str(closed / "work")))
    assert error.permanent
    assert "User nobody may not enter root_dir" in error.reason
    assert f"allow it on {closed} " in error.reason


@pytest.mark.root
async def test_a_program_that_the_user_cannot_reach(each_starter, nobody):
    """A program below a folder that is closed to the user is refused with that folder's name."""
    closed = each_starter.folder / "closed"
    closed.mkdir(mode=0o700)
    shutil.copy("/bin/true", closed)
    error = await refusal(each_starter, each_starter.launch("tells.py", account=nobody, argv=(str(closed / "true"),)))
    assert error.permanent
    assert f"because {closed} does not let her in" in error.reason


@pytest.mark.root
async def test_a_user_with_too_many_processes(starter, nobody):
    """The user's own limit of processes is named, and it is worth trying again."""
    program = f"""
import asyncio, resource, os
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
from jlabd.core.launch import Account, Launch
from jlabd.processes.spawn import SpawnError, spawn
async def main():
    account = Account("nobody", {nobody.uid}, {nobody.gid}, ({nobody.gid},), "/", "/bin/sh")
    try:
        for _ in range(2):  # the second is one too many, the first may be
            await spawn(Launch(("/bin/sleep", "5"), {{}}, "/", account, 0), listen_fd=None, output_fd=2)
    except SpawnError as error:
        print(error.permanent, error.reason)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=-1)
    said = (await process.communicate())[0].decode()
    assert said.startswith("False User nobody has too many processes already")


SENTENCES = [
    ({"argv": ("/no/such/program",)}, True, "The program /no/such/program does not exist"),
    ({"argv": ("no-such-program",)}, True, "There is no program “no-such-program” in PATH"),
    ({"argv": ("/etc/passwd",)}, True, "may not run /etc/passwd: make it an executable file"),
    ({"argv": ("/etc",)}, True, "may not run /etc"),
    ({"argv": ("/etc/passwd/x",)}, True, "/etc/passwd/x does not exist"),
    ({"cwd": "/no/such/folder"}, True, "root_dir /no/such/folder does not exist: create it"),
    ({"cwd": "/etc/passwd"}, True, "root_dir /etc/passwd is not a folder"),
    ({"argv": ("/bin/true", "x" * 3_000_000)}, True, "arguments and environment of /bin/true are too long"),
    ({"argv": ("/bin/true", "a\0b")}, True, "NUL character"),
]


@pytest.mark.parametrize(("change", "permanent", "sentence"), SENTENCES)
async def test_each_failure_has_its_sentence(each_starter, change, permanent, sentence):
    """What cannot be started is refused with its own sentence and the right advice on trying again."""
    error = await refusal(each_starter, each_starter.launch("tells.py", **change))
    assert sentence in error.reason
    assert error.permanent is permanent


async def test_scripts_that_cannot_run(each_starter):
    """A script without an interpreter line, or whose interpreter is missing, is told apart from a missing one."""
    for content, sentence in (
        ("#!/no/such/python\n", "names an interpreter in its first line (#!) that does not exist"),
        ("just words\n", "is not a program for this machine"),
    ):
        script = each_starter.folder / f"script{len(content)}"
        script.write_text(content)
        script.chmod(0o755)
        error = await refusal(each_starter, each_starter.launch("tells.py", argv=(str(script),)))
        assert sentence in error.reason
        assert error.permanent


async def test_too_many_open_files_asked_for(starter, monkeypatch):
    """A limit above the daemon's own is refused with the key to change."""
    if os.geteuid() == 0:
        most = int(Path("/proc/sys/fs/nr_open").read_text())
    else:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    error = await refusal(starter, starter.launch("tells.py", open_files=most + 1))
    assert "limits.open_files" in error.reason
    assert error.permanent


async def test_switching_without_the_right_to(starter):
    """An ordinary daemon that shall switch users says that it must run as root."""
    program = """
import asyncio, os
from jlabd.core.launch import Account, Launch
from jlabd.processes.spawn import SpawnError, spawn
if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)
async def main():
    launch = Launch(("/bin/true",), {}, "/", Account("daemon", 1, 1, (1,), "/", "/bin/sh"), 0)
    try:
        await spawn(launch, listen_fd=None, output_fd=1)
    except SpawnError as error:
        print(error.permanent, error.reason)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=-1)
    said = (await process.communicate())[0].decode()
    assert said.startswith("True jlabd may not switch to user daemon, because it runs as uid"), said


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EAGAIN, "refuses another process"), (errno.ENOMEM, "no memory left")],
)
async def test_a_fork_that_fails(starter, monkeypatch, number, words):
    """A system that has no room for another process is named, and it is worth trying again."""

    def refuse():
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(spawning.os, "fork", refuse)
    error = await refusal(starter, starter.launch("tells.py"))
    assert words in error.reason
    assert not error.permanent


async def test_no_descriptors_left(starter):
    """Without free descriptors the start is refused, nothing is lost, and the next one succeeds."""
    output = os.open("/dev/null", os.O_WRONLY)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    launch = starter.launch("tells.py", argv=("/bin/true",))
    loop_ready = await spawn(launch, listen_fd=None, output_fd=output)
    assert (await wait_exit(loop_ready)).clean
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    hoard = []
    try:
        while True:
            try:
                hoard.append(os.dup(output))
            except OSError:
                break
        with pytest.raises(SpawnError, match="no file descriptors left") as caught:
            await spawn(launch, listen_fd=None, output_fd=output)
        assert not caught.value.permanent
        for free in range(1, 5):  # enough for some steps of a start and not for others
            os.close(hoard.pop())
            outcome = await outcome_of(spawn(launch, listen_fd=None, output_fd=output))
            assert outcome in (("started", "refused") if free < 4 else ("started",))
    finally:
        for descriptor in hoard:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(output)
