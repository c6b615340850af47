"""Starting one process: fork, the child's straight line to exec (`child`), and a handle that cannot hit a stranger."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from io import FileIO
from typing import TYPE_CHECKING

from jlabd.core.launch import MARK_VARIABLE, Account, Launch
from jlabd.processes import claims, descriptors, identity, procfs
from jlabd.processes.child import Plan, Report, become
from jlabd.processes.identity import Identity
from jlabd.processes.marks import realtime_limit
from jlabd.processes.refusals import SpawnError, refused_by_child, refused_by_system

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Process",
    "SpawnError",
    "adopt",
    "complete_environment",
    "must_switch",
    "plan_start",
    "read_to_end",
    "spawn",
    "take_in",
]

_BURIAL_S = 1.0
"""Pause before a dead process that somebody traces is looked at again."""


class Process:
    """A process held by a pidfd: signals reach it or nobody, never a later process with the same pid."""

    __slots__ = ("identity", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, who: Identity) -> None:
        self.pid = pid
        self.pidfd = pidfd
        """-1 once closed."""
        self.identity = who

    def __repr__(self) -> str:
        return f"Process(pid={self.pid})"

    def signal(self, signum: int) -> None:
        """Send `signum` to this process alone; nothing happens if it is gone. Raises PermissionError."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signum)

    def abandon(self) -> None:
        """Kill the child and see it reaped whenever it ends; it may hang in the system for long."""
        self.signal(signal.SIGKILL)
        asyncio.get_running_loop().add_reader(self.pidfd, self._ended)

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self.pidfd)
        self.bury()

    def bury(self) -> os.waitid_result | None:
        """Reap the process, which has ended, and close the handle; return how it ended, None if we are not told.

        One that is traced (gdb, strace) is shown to nobody but its tracer until that looks, or ends itself. Waiting for
        it would hold up the daemon for as long as the tracer likes: it is tried again later.
        """
        if self.pidfd < 0:
            return None
        result = None
        with contextlib.suppress(ChildProcessError):
            result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
            if result is None:
                asyncio.get_running_loop().call_later(_BURIAL_S, self.bury)
                return None
        claims.drop(self.pid)
        self.close()
        return result

    def close(self) -> None:
        """Let go of the process, which goes on; asking twice is harmless."""
        descriptor, self.pidfd = self.pidfd, -1
        if descriptor >= 0:
            os.close(descriptor)


def adopt(who: Identity) -> Process | None:
    """Return a handle on a living process that an earlier daemon started, None if it is gone. Raises OSError."""
    try:
        pidfd = os.pidfd_open(who.pid)
    except (ProcessLookupError, OverflowError, ValueError):
        return None
    process = Process(who.pid, pidfd, who)
    if identity.is_alive(who):  # looked at after the pidfd was opened: so both speak of the same process
        claims.claim(who.pid)  # after a re-execution it is our child, whose exit is for `wait_exit`
        return process
    process.close()
    return None


def take_in(pid: int) -> Process:
    """Return a handle on `pid`, a child of ours that somebody else forked for us and whose exit will be awaited.

    Raises OSError and ProcessLookupError if it is gone, or none of our children. The caller must know that the process
    lives on meanwhile: else its pid could be another's by now.
    """
    process = _handle(pid)
    stat = procfs.stat(pid)
    if stat is None or stat.gone or stat.ppid != os.getpid():
        process.close()
        raise ProcessLookupError(errno.ESRCH, "is not a child of jlabd")
    claims.claim(pid)
    return process


async def spawn(
    launch: Launch,
    *,
    listen_fd: int | None,
    output_fd: int,
    notify_fd: int | None = None,
    cgroup_fd: int | None = None,
) -> Process:
    """Start the program and return when it runs. The descriptors stay the caller's.

    The program gets 0 (/dev/null), 1 and 2 (`output_fd`), 3 (`listen_fd`, with the LISTEN_* variables) and 4
    (`notify_fd`), a session of its own, default signals and no precedence. Raises SpawnError. Cancelled, for instance
    while a dead file server keeps the child from entering its folder, it kills the child and sees it reaped. Its exit
    must be awaited with `exits.wait_exit`.
    """
    reader, writer = _pipe()
    with reader:
        with writer:
            plan = plan_start(
                launch,
                report=writer.fileno(),
                output=output_fd,
                listen=listen_fd,
                notify=notify_fd,
                cgroup=cgroup_fd,
            )
            process = _fork(plan, writer)
        await _until_executed(process, reader.fileno(), launch)
    return process


async def _until_executed(process: Process, reader: int, launch: Launch) -> None:
    try:
        data = await read_to_end(reader)
    except BaseException:
        process.abandon()
        raise
    if data:
        process.abandon()
        raise refused_by_child(Report.decode(data), launch)


def _pipe() -> tuple[FileIO, FileIO]:
    try:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise refused_by_system(error) from error
    return FileIO(reader, "r"), FileIO(writer, "w")


def plan_start(
    launch: Launch, *, report: int, output: int, listen: int | None, notify: int | None, cgroup: int | None
) -> Plan:
    """Return what the forked child needs to become the program; the numbers are descriptors. Raises SpawnError."""
    env = complete_environment(launch, listening=listen is not None)
    return Plan(
        programs=tuple(os.fsencode(path) for path in _candidates(launch)),
        argv=tuple(os.fsencode(word) for word in launch.argv),
        env={os.fsencode(key): os.fsencode(value) for key, value in env.items()},
        cwd=launch.cwd,
        account=launch.account if launch.account and must_switch(launch.account) else None,
        umask=launch.umask,
        open_files=launch.open_files,
        ordinary_files=descriptors.ordinary_limit(),
        realtime_limit=realtime_limit(launch.mark) if launch.mark else None,
        report=report,
        output=output,
        listen=listen,
        notify=notify,
        cgroup=cgroup,
        private_tmp=launch.private_tmp,
        view=launch.view,
        no_new_privileges=launch.no_new_privileges,
    )


def complete_environment(launch: Launch, *, listening: bool) -> dict[str, str]:
    """Return the environment of the program, but for its pid. Raises SpawnError for a NUL in what it is given."""
    env = dict(launch.env)
    if listening:
        env |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
    if launch.mark:
        env[MARK_VARIABLE] = launch.mark
    _refuse_nul((*launch.argv, *env.keys(), *env.values(), launch.cwd, *(launch.view or ())))
    return env


def _refuse_nul(texts: tuple[str, ...]) -> None:
    if any("\0" in text for text in texts):
        raise SpawnError("The command, its environment or its folder holds a NUL character: remove it.", permanent=True)


def _candidates(launch: Launch) -> list[str]:
    program = launch.argv[0]
    if "/" in program:
        return [program]
    folders = launch.env.get("PATH", os.defpath).split(os.pathsep)
    return [f"{folder}/{program}" for folder in folders if folder.startswith("/")]


def must_switch(account: Account) -> bool:
    """Root always sets all ids and groups; another user need not, and could not, become himself."""
    return os.geteuid() == 0 or (account.uid, account.gid) != (os.geteuid(), os.getegid())


def _fork(plan: Plan, writer: FileIO) -> Process:
    """Fork. No signal handler of the daemon can run in the child; its pidfd is opened before it can be reaped."""
    with _signals_blocked():
        try:
            pid = os.fork()
        except OSError as error:
            raise refused_by_system(error) from error
        if pid == 0:
            become(plan)
    claims.claim(pid)
    try:
        writer.close()  # makes room for the pidfd when descriptors are short
        return _handle(pid)
    except BaseException as error:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        claims.drop(pid)
        if isinstance(error, OSError):
            raise refused_by_system(error) from error
        raise


def _handle(pid: int) -> Process:
    pidfd = os.pidfd_open(pid)
    try:
        stat = procfs.stat(pid)
    except OSError:
        os.close(pidfd)
        raise
    if stat is None:
        os.close(pidfd)
        raise RuntimeError(f"/proc does not show our own child {pid}; is /proc mounted?")
    return Process(pid, pidfd, Identity(pid, stat.start_ticks, identity.boot_id()))


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def read_to_end(descriptor: int, most: int = 65536) -> bytes:
    """Read until every writer is gone, or has said at least `most` bytes. The event loop goes on meanwhile."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    ended = loop.create_future()

    def take() -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                piece = os.read(descriptor, 65536)
            except ConnectionResetError:  # it ended without having read what it was sent
                piece = b""
            data.extend(piece)
            if (not piece or len(data) >= most) and not ended.done():
                ended.set_result(None)

    loop.add_reader(descriptor, take)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
    return bytes(data)
