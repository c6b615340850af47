"""What a started process is born with, and what is said when none came to be."""

import asyncio
import dataclasses
import errno
import grp
import json
import os
import re
import resource
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from rig.waiting import eventually, until

from jlabd.core.launch import Account, Launch
from jlabd.processes import claims, identity, procfs
from jlabd.processes import spawn as spawning
from jlabd.processes.exits import wait_exit
from jlabd.processes.spawn import SpawnError, adopt, spawn


async def told(starter, launch, **descriptors):
    """Start the program that tells what it was born with; return that."""
    process = await starter.spawn(launch, **descriptors)
    assert (await wait_exit(process)).clean, starter.written()
    return json.loads(starter.written())


async def refusal(starter, launch, **descriptors):
    """Try to start what cannot be started; return the error, after seeing that no child is left."""
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(SpawnError) as caught:
        await starter.spawn(launch, **descriptors)
    await eventually(lambda: not any(claims.is_claimed(pid) for pid in procfs.children()))
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


async def test_only_its_own_descriptors_are_open(starter):
    """The program has nothing to read, its log, the socket and the pipe, and nothing else of the daemon's."""
    stray = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(stray, True)
    reader, writer = os.pipe()
    with socket.socket() as listener:
        it = await told(starter, starter.launch("tells.py"), listen_fd=listener.fileno(), notify_fd=writer)
    for descriptor in (stray, reader, writer):
        os.close(descriptor)
    assert sorted(it["descriptors"]) == ["0", "1", "2", "3", "4"]
    assert it["descriptors"]["0"] == "/dev/null"
    assert it["descriptors"]["1"] == it["descriptors"]["2"] == str(starter.log)
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


async def test_environment_is_exactly_the_given_one(starter):
    """Nothing of the daemon's environment is passed on; the mark and, with a socket, LISTEN_* are added."""
    odd = {"A": "100% $HOME 'quoted' \"x\" ü\n", "B": ""}
    with socket.socket() as listener:
        it = await told(starter, starter.launch("tells.py", env=odd, mark="m"), listen_fd=listener.fileno())
    listen = {"LISTEN_FDS": "1", "LISTEN_PID": str(it["pid"]), "LISTEN_FDNAMES": "http"}
    it["env"].pop("LC_CTYPE", None)  # added by Python itself
    assert it["env"] == {"PATH": os.defpath, "JLABD_MARK": "m"} | odd | listen


async def test_without_a_socket_no_listen_variables(starter):
    """LISTEN_* are given only with a socket."""
    it = await told(starter, starter.launch("tells.py"))
    assert not [name for name in it["env"] if name.startswith("LISTEN")]
    assert sorted(it["descriptors"]) == ["0", "1", "2"]


async def test_signals_are_as_if_newly_born(starter):
    """Whatever the daemon blocks, ignores or handles, the program starts with defaults."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN), signal.signal(signal.SIGHUP, lambda *_: None)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    try:
        launch = starter.launch("tells.py", argv=("/bin/cat", "/proc/self/status"))
        await wait_exit(await starter.spawn(launch))
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGTERM, signal.SIGCHLD}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGHUP, before[1])
    masks = dict(re.findall(r"^(Sig(?:Blk|Ign|Cgt)):\t0*(\w+)", starter.written(), re.MULTILINE))
    assert masks == {"SigBlk": "0", "SigIgn": "0", "SigCgt": "0"}


async def test_it_has_a_session_of_its_own(starter):
    """The program leads its own session, in its folder, with its umask."""
    it = await told(starter, starter.launch("tells.py", umask=0o027))
    assert it["sid"] == it["pid"]
    assert it["cwd"] == str(starter.folder)
    assert it["umask"] == 0o027


async def test_limit_of_open_files(starter):
    """`open_files` becomes the soft and the hard limit."""
    launch = starter.launch("tells.py", argv=("/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"), open_files=99)
    await wait_exit(await starter.spawn(launch))
    assert starter.written() == "99\n99\n"


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
async def test_user_is_really_switched(starter, nobody):
    """All three user and group ids are the account's, the supplementary groups are exactly hers."""
    groups = tuple(sorted({nobody.gid, grp.getgrnam("mail").gr_gid, grp.getgrnam("games").gr_gid}))
    account = dataclasses.replace(nobody, groups=groups)
    it = await told(starter, starter.launch("tells.py", account=account, env={"HOME": "/nonexistent"}))
    assert it["uids"] == [nobody.uid] * 3
    assert it["gids"] == [nobody.gid] * 3
    assert it["groups"] == list(groups)
    assert it["env"]["HOME"] == "/nonexistent"


@pytest.mark.root
async def test_a_folder_that_only_root_may_enter_is_refused(starter, nobody):
    """The folder is entered with the user's rights, and the sentence names the folder that stopped her."""
    closed = starter.folder / "closed"
    (closed / "work").mkdir(parents=True)
    closed.chmod(0o700)
    error = await refusal(starter, starter.launch("tells.py", account=nobody, cwd=str(closed / "work")))
    assert error.permanent
    assert "User nobody may not enter root_dir" in error.reason
    assert f"allow it on {closed} " in error.reason


@pytest.mark.root
async def test_a_program_that_the_user_cannot_reach(starter, nobody):
    """A program below a folder that is closed to the user is refused with that folder's name."""
    closed = starter.folder / "closed"
    closed.mkdir(mode=0o700)
    shutil.copy("/bin/true", closed)
    error = await refusal(starter, starter.launch("tells.py", account=nobody, argv=(str(closed / "true"),)))
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
async def test_each_failure_has_its_sentence(starter, change, permanent, sentence):
    """What cannot be started is refused with its own sentence and the right advice on trying again."""
    error = await refusal(starter, starter.launch("tells.py", **change))
    assert sentence in error.reason
    assert error.permanent is permanent


async def test_scripts_that_cannot_run(starter):
    """A script without an interpreter line, or whose interpreter is missing, is told apart from a missing one."""
    for content, sentence in (
        ("#!/no/such/python\n", "names an interpreter in its first line (#!) that does not exist"),
        ("just words\n", "is not a program for this machine"),
    ):
        script = starter.folder / f"script{len(content)}"
        script.write_text(content)
        script.chmod(0o755)
        error = await refusal(starter, starter.launch("tells.py", argv=(str(script),)))
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
    assert (ended.code, ended.describe()) == (1, "exited with status 1") or ended.code == 3


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


def test_account_is_a_plain_value():
    """An account and a launch can be compared and hold no secret in their repr."""
    account = Account("a", 1, 1, (1,), "/", "/bin/sh")
    assert "SECRET" not in repr(Launch(("x",), {"K": "SECRET"}, "/", account, 0))
