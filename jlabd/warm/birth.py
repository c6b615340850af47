"""Births: how a wish becomes a child of the daemon's own, forked by another process that does so when asked.

The child says that it is born on a channel of its own. Who it is the daemon learns from the kernel (SCM_CREDENTIALS)
and not from what anybody says; it sends the plan only when it holds the child by pidfd, so that a start that is called
off leaves nothing behind: a child whose channel is closed ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from jlabd.core.launch import Launch
from jlabd.processes.refusals import refused_by_system
from jlabd.processes.spawn import Process, read_to_end, spawn, take_in

LAST_WORDS_SIZE = 8192
"""Bytes that are read of what stopped a child: it may be its user who speaks."""
_CREDENTIALS = struct.Struct("3i")
_NEVER = frozenset((errno.ENOSYS, errno.E2BIG, errno.EINVAL, errno.EPERM, errno.EACCES))
"""Errors of a fork that the next one would end with as well: an old kernel, a filter of system calls."""


class ForkError(Exception):
    """Nothing was forked; the text is a clause that says why. `final`: who was asked is not to be asked any more."""

    def __init__(self, why: str, *, final: bool) -> None:
        super().__init__(why)
        self.final = final


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What a program inherits, and the folder of the cgroup that it belongs to. They stay the caller's."""

    output: int
    listen: int | None
    notify: int | None
    cgroup: int | None

    def there(self) -> list[int]:
        """Return those that there are, in the order in which a child is sent them."""
        return [number for number in (self.output, self.listen, self.notify, self.cgroup) if number is not None]


async def begin_forker(launch: Launch, output: int, cgroup: int | None = None) -> tuple[Process, socket.socket]:
    """Run a process that forks when asked; return it, and the daemon's end of the socket on which it is asked.

    Raises SpawnError, OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs:
            ours.setblocking(False)
            process = await spawn(launch, listen_fd=None, output_fd=output, notify_fd=theirs.fileno(), cgroup_fd=cgroup)
    except BaseException:
        ours.close()
        raise
    return process, ours


class Births:
    """The daemon's end of the socket to a process that forks when asked; takes `control` over.

    `patience_s` is for an answer, and again for what was forked to speak.
    """

    def __init__(self, control: socket.socket, patience_s: float) -> None:
        self.control = control
        self._patience_s = patience_s
        self._one_at_a_time = asyncio.Lock()
        self._wishes = 0
        self._broken = self._closed = False

    async def start(self, plan: bytes, given: Sequence[int], *to_forker: int) -> tuple[Process, bytes]:
        """Return a new child that has its plan, and what it said before it was something else; empty if all went well.

        The child gets the descriptors `given` with its plan, and the one that forks gets `to_forker`. Raises ForkError
        if nothing was forked, SpawnError, OSError. Cancelled, it kills the child and sees it reaped.
        """
        with contextlib.ExitStack() as ours:
            file = ours.enter_context(_in_memory(plan))
            channel, theirs = map(ours.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            channel.setblocking(False)
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            process = await self._birth(channel, theirs, to_forker)
            try:
                socket.send_fds(channel, [b"plan"], [file.fileno(), *given])
                return process, await read_to_end(channel.fileno(), LAST_WORDS_SIZE)
            except BaseException as error:
                process.abandon()
                if isinstance(error, OSError):  # somebody has killed it already
                    raise refused_by_system(error) from error
                raise

    async def _birth(self, channel: socket.socket, theirs: socket.socket, given: Sequence[int]) -> Process:
        """Return a new child at the other end of `channel`, which waits for its plan. Closes `theirs`.

        It holds `theirs`, and nobody else does. Raises ForkError.
        """
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._wish(theirs, given)
            except OSError as error:  # TimeoutError is one
                self._broken = True
                raise ForkError(_why(error), final=True) from error
            finally:
                if self._closed:
                    self.control.close()
        try:
            async with asyncio.timeout(self._patience_s):
                return _held(channel, await receive(channel, _CREDENTIALS.size))
        except OSError as error:
            raise ForkError(_why(error), final=False) from error

    async def _wish(self, theirs: socket.socket, given: Sequence[int]) -> None:
        """Have a child forked that holds `theirs`, and nobody else does then. Raises ForkError, OSError.

        Each wish has a number: the answer to one that was called off is no answer to the next.
        """
        if self._broken:
            raise TimeoutError
        self._wishes += 1
        number = str(self._wishes).encode()
        socket.send_fds(self.control, [number], [theirs.fileno(), *given])
        theirs.close()
        while True:
            data, _ = await receive(self.control, 0)
            if not data:
                raise ConnectionResetError
            which, _, outcome = data.partition(b" ")
            if which == number and outcome == b"0":
                return
            if which == number:
                refusal = int(outcome) if outcome.isdigit() else errno.EINVAL
                raise ForkError(os.strerror(refusal), final=refusal in _NEVER)

    @property
    def is_open(self) -> bool:
        """Whether somebody is there to be asked. Raises OSError."""
        return _is_open(self.control)

    def close(self) -> None:
        """Ask no more: who forks ends then, and who waits for an answer is told that there will be none."""
        self._broken = self._closed = True
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)
        if not self._one_at_a_time.locked():
            self.control.close()


def _in_memory(plan: bytes) -> BinaryIO:
    """Return an open file with the plan, which is too long for a message. Raises OSError."""
    file = open(os.memfd_create("jlabd", os.MFD_CLOEXEC), "wb", buffering=0)  # noqa: PTH123, SIM115  (a descriptor; the caller's to close)
    file.write(plan)
    return file


def _held(channel: socket.socket, message: tuple[bytes, list[tuple[int, int, bytes]]]) -> Process:
    """Return the child that said it was born. Raises ForkError, OSError."""
    data, ancillary = message
    for level, kind, content in ancillary:
        if data == b"born" and (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            process = take_in(_CREDENTIALS.unpack(content)[0])
            if _is_open(channel):  # it lived when it was taken hold of, so the pid was its own
                return process
            process.abandon()
    raise ForkError("it died at its birth", final=False)


def _is_open(channel: socket.socket) -> bool:
    try:
        return bool(channel.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True


async def receive(channel: socket.socket, room: int) -> tuple[bytes, list[tuple[int, int, bytes]]]:
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


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return "it has ended" if isinstance(error, ConnectionError) else error.strerror or str(error)
