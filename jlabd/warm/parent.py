"""One warm parent, as the daemon sees it: a child that imports, and from then on answers each wish with a lab.

The lab becomes the daemon's own child, because the daemon is the reaper of its descendants and the process between
parent and lab ends at once. Who it is the daemon learns from the kernel (SCM_CREDENTIALS) and not from what anybody
says; it sends the plan only when it holds the lab by pidfd, so that a start that is called off leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from jlabd.core.launch import Launch
from jlabd.processes.child import Report
from jlabd.processes.exits import wait_exit
from jlabd.processes.marks import realtime_limit
from jlabd.processes.refusals import refused_by_child
from jlabd.processes.spawn import Process, complete_environment, must_switch, read_to_end, spawn, take_in

ANSWER_TIMEOUT_S = 10.0
"""For a fork, also on a machine that is busy with something else."""
FAREWELL_S = 1.0
"""For labs that are on their way, and for a parent to end when its socket was closed."""
REPORT_SIZE = 4 * 1024 * 1024
"""Bytes that are read of what a parent says when it has imported."""
LAST_WORDS_SIZE = 8192
"""Bytes that are read of what stopped a lab: it may be its user who speaks."""
SAID_SIZE = 400
"""Characters that are quoted of what was printed at import."""
_CREDENTIALS = struct.Struct("3i")


class UnfitError(Exception):
    """No labs can be forked; the text is a clause that says why."""


class ForkError(Exception):
    """A parent made no lab; the text is a clause that says why. The parent is not to be used any more."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What a lab inherits. They stay the caller's."""

    output: int
    listen: int
    notify: int
    cgroup: int | None


class WarmParent:
    """A process that has imported JupyterLab, or is about to. Made by `begin`, ended by `end`."""

    def __init__(
        self, tree: str, process: Process, control: socket.socket, output: int, env: Mapping[str, str]
    ) -> None:
        self._env = env
        self.tree = tree
        """Under which name its processes are kept."""
        self.process = process
        self._control = control
        self._output = output
        self._one_at_a_time = asyncio.Lock()
        self._wishes = 0
        self._under_way = 0
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self._broken = False
        self.folders: frozenset[str] = frozenset()
        """Where it has imported from."""
        self.variables: dict[str, str | None] = {}
        """What the import has read of the environment, and what it has found."""

    @classmethod
    async def begin(cls, tree: str, launch: Launch, cgroup_fd: int | None) -> Self:
        """Run a parent and return it; it is not ready before `imported`. Raises SpawnError, OSError."""
        output = os.memfd_create("jlabd", os.MFD_CLOEXEC)
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                ours.setblocking(False)
                process = await spawn(
                    launch, listen_fd=None, output_fd=output, notify_fd=theirs.fileno(), cgroup_fd=cgroup_fd
                )
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
        except BaseException:
            os.close(output)
            raise
        return cls(tree, process, ours, output, launch.env)

    async def imported(self, timeout_s: float) -> None:
        """Return when it has imported. Raises UnfitError: it is of no use then."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._imported()
        except TimeoutError:
            raise UnfitError(f"importing it takes more than {timeout_s:g} s") from None

    async def _imported(self) -> None:
        data, files = await _receive_file(self._control)
        if not data or not files:
            ended = await wait_exit(self.process)
            raise UnfitError(f"importing it fails: the process {ended.describe()}{_quoted(self._said())}")
        report = json.loads(os.pread(files[0], REPORT_SIZE, 0))
        os.close(files[0])
        if report["reason"]:
            raise UnfitError(_printable(str(report["reason"])))
        if said := self._said():
            raise UnfitError(f"importing it prints{_quoted(said)}")
        self.folders = frozenset(map(str, report["folders"]))
        self.variables = {str(name): self._env.get(str(name)) for name in report["variables"]}

    def _said(self) -> str:
        """Return what it has printed so far."""
        return os.pread(self._output, 64 * 1024, 0).decode(errors="replace").strip()

    async def fork(self, launch: Launch, descriptors: Descriptors) -> tuple[Process, str]:
        """Return a new lab that runs, and why it executed Python anew after all (empty if it did not).

        Raises ForkError if there is no lab; SpawnError if there was one and it could not become what `launch` wants.
        Cancelled, it kills the lab and sees it reaped.
        """
        plan = _plan(launch)
        self._under_way += 1
        self._at_rest.clear()
        try:
            return await self._fork(launch, plan, descriptors)
        finally:
            self._under_way -= 1
            if not self.busy:
                self._at_rest.set()

    @property
    def busy(self) -> bool:
        """Whether labs are on their way."""
        return self._under_way > 0

    async def _fork(self, launch: Launch, plan: bytes, descriptors: Descriptors) -> tuple[Process, str]:
        with contextlib.ExitStack() as ours:
            channel, theirs = map(ours.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            channel.setblocking(False)
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            process = await self._birth(channel, theirs)
            try:
                _send_plan(channel, plan, descriptors)
                data = await read_to_end(channel.fileno(), LAST_WORDS_SIZE)
            except BaseException:
                process.abandon()
                raise
        if data.startswith(b"cold\0"):
            return process, _printable(data[5:].decode(errors="replace"))
        if data:
            process.abandon()
            raise refused_by_child(Report.decode(data), launch)
        return process, ""

    async def _birth(self, channel: socket.socket, theirs: socket.socket) -> Process:
        try:
            async with self._one_at_a_time, asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._wish(theirs)
                return _held(channel, await _receive(channel, _CREDENTIALS.size))
        except TimeoutError:
            self._broken = True
            raise ForkError("it does not answer") from None
        except ConnectionError as error:
            self._broken = True
            raise ForkError("it has ended") from error
        except OSError as error:
            self._broken = True
            raise ForkError(error.strerror or str(error)) from error

    async def _wish(self, theirs: socket.socket) -> None:
        """Have a lab forked that holds `theirs`, and nobody else does then. Raises ForkError, OSError.

        Each wish has a number: the answer to one that was called off is no answer to the next.
        """
        if self._broken:
            raise ForkError("it does not answer")
        self._wishes += 1
        number = str(self._wishes).encode()
        socket.send_fds(self._control, [number], [theirs.fileno()])
        theirs.close()
        while True:
            data, _ = await _receive(self._control, 0)
            which, _, outcome = data.partition(b" ")
            if not data or (which == number and outcome != b"0"):
                raise ForkError(_words(outcome))
            if which == number:
                return

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        try:
            return self.process.pidfd >= 0 and _is_open(self._control)
        except OSError:
            return False

    async def rest(self) -> None:
        """Return when no lab is on its way, or takes its time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self._at_rest.wait()

    async def end(self) -> None:
        """End the process; the labs live on. Asking twice is harmless."""
        self._control.close()
        if self._output >= 0:
            os.close(self._output)
            self._output = -1
        if self.process.pidfd < 0:
            return
        try:
            async with asyncio.timeout(FAREWELL_S):
                await wait_exit(self.process)
        except TimeoutError:
            self.process.abandon()


def _plan(launch: Launch) -> bytes:
    env = complete_environment(launch, listening=True)
    account = launch.account if launch.account is not None and must_switch(launch.account) else None
    files = launch.open_files
    plan: Mapping[str, Any] = {
        "argv": launch.argv,
        "env": env,
        "cwd": launch.cwd,
        "uid": None if account is None else account.uid,
        "gid": None if account is None else account.gid,
        "groups": () if account is None else account.groups,
        "context": "" if account is None else account.context,
        "umask": launch.umask,
        "open_files": None if files is None else (files, files),
        "realtime_limit": realtime_limit(launch.mark) if launch.mark else None,
        "no_new_privileges": launch.no_new_privileges,
    }
    return json.dumps(plan).encode()


def _send_plan(channel: socket.socket, plan: bytes, descriptors: Descriptors) -> None:
    file = os.memfd_create("jlabd", os.MFD_CLOEXEC)
    try:
        with open(file, "wb", closefd=False) as content:
            content.write(plan)
        given = [file, descriptors.output, descriptors.listen, descriptors.notify]
        if descriptors.cgroup is not None:
            given.append(descriptors.cgroup)
        socket.send_fds(channel, [b"plan"], given)
    finally:
        os.close(file)


def _held(channel: socket.socket, message: tuple[bytes, list[tuple[int, int, bytes]]]) -> Process:
    """Return the lab that said it was born. Raises ForkError, OSError."""
    data, ancillary = message
    for level, kind, content in ancillary:
        if data == b"born" and (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            process = take_in(_CREDENTIALS.unpack(content)[0])
            if _is_open(channel):  # it lived when it was taken hold of, so the pid was its own
                return process
            process.abandon()
    raise ForkError("the lab died at its birth")


def _is_open(channel: socket.socket) -> bool:
    try:
        return bool(channel.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True


async def _receive(channel: socket.socket, room: int) -> tuple[bytes, list[tuple[int, int, bytes]]]:
    """Return the next message and what comes with it (`room` bytes); empty when nobody is left who could send one."""
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(channel, _wake, readable)
    try:
        await readable
    finally:
        loop.remove_reader(channel)
    space = socket.CMSG_SPACE(room) if room else 0
    data, ancillary, _, _ = channel.recvmsg(4096, space, socket.MSG_CMSG_CLOEXEC)
    return data, ancillary


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def _receive_file(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Return the next message and the descriptors that come with it, which are the caller's."""
    data, ancillary = await _receive(channel, struct.calcsize("i"))
    rights = [content for level, kind, content in ancillary if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)]
    return data, [number for content in rights for (number,) in struct.iter_unpack("i", content)]


def _words(answer: bytes) -> str:
    if not answer:
        return "it has ended"
    number = int(answer) if answer.isdigit() else errno.EINVAL
    return os.strerror(number)


def _quoted(said: str) -> str:
    """Return the last line of what was said, printable, to follow a clause."""
    line = said.splitlines()[-1] if said else ""
    return f": {_printable(line)}" if line else ""


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:SAID_SIZE]
