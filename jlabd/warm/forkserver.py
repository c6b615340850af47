"""The fork server: a small process of the daemon's that forks for it, right into cgroups.

The daemon's own fork copies the page tables of 50 MB and more, and its child waits to be let into its cgroup. A small
process without threads does both in a fraction of that (`processes.clone`). It is of use only where there are cgroups;
whatever it cannot do, and whatever happens to it, the daemon forks itself as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pickle
import socket
from dataclasses import dataclass

import structlog

from jlabd.core.launch import Launch
from jlabd.ourselves import own_program
from jlabd.processes.child import Report
from jlabd.processes.exits import wait_exit
from jlabd.processes.refusals import SpawnError, refused_by_child, refused_by_system
from jlabd.processes.spawn import Process, plan_start, read_to_end, spawn
from jlabd.warm.birth import Births, ForkError, open_channel, receive

log = structlog.get_logger()

BEGIN_S = 60.0
"""For it to be ready; until then the daemon forks."""
PATIENCE_S = 2.0
"""For a fork: well below what emptying a private folder may take."""
FAREWELL_S = 1.0
"""For it to end when its socket was closed."""


@dataclass(frozen=True, slots=True)
class _Given:
    """Descriptors: the program's log, socket and pipe, and the folder of its cgroup."""

    output: int
    listen: int | None
    notify: int | None
    cgroup: int

    def held(self, held: contextlib.ExitStack) -> _Given:
        """Return the same open files under numbers of our own. Raises OSError."""

        def own(number: int) -> int:
            copy = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 0)
            held.callback(os.close, copy)
            return copy

        listen = None if self.listen is None else own(self.listen)
        notify = None if self.notify is None else own(self.notify)
        return _Given(own(self.output), listen, notify, own(self.cgroup))

    async def fork(self, launch: Launch) -> Process:
        """Start the program by a fork of the daemon's own. Raises SpawnError."""
        return await spawn(
            launch, listen_fd=self.listen, output_fd=self.output, notify_fd=self.notify, cgroup_fd=self.cgroup
        )

    def for_program(self) -> list[int]:
        """Return what the program gets, in the order in which its plan has them."""
        return [number for number in (self.output, self.listen, self.notify) if number is not None]


class ForkServer:
    """Forks programs into cgroups. To be used in the running event loop."""

    def __init__(self) -> None:
        self._births: Births | None = None
        self.process: Process | None = None
        """The server, while it works."""

    async def begin(self) -> None:
        """Run the process. If that fails it is said, and everything goes on without it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                process = await _run(theirs.fileno())
            try:
                async with asyncio.timeout(BEGIN_S):
                    await receive(ours, 0)  # that it is ready, or that it has ended: then it will not answer
            except BaseException:
                process.abandon()
                raise
        except (OSError, SpawnError) as error:
            ours.close()
            log.warning(
                "jlabd forks by itself: its fork server cannot be started.", error=str(error) or "it takes too long"
            )
        except BaseException:
            ours.close()
            raise
        else:
            self.process, self._births = process, Births(ours, PATIENCE_S)
            asyncio.get_running_loop().add_reader(process.pidfd, self._died, self._births)

    def _died(self, births: Births) -> None:
        self._give_up(births, "it has ended")

    @property
    def works(self) -> bool:
        """Whether it is there, and has not failed."""
        return self._births is not None

    async def spawn(
        self,
        launch: Launch,
        *,
        listen_fd: int | None,
        output_fd: int,
        notify_fd: int | None = None,
        cgroup_fd: int | None = None,
    ) -> Process:
        """Do as `processes.spawn.spawn` does: by the fork server if that can be, else by a fork of the daemon's own."""
        if self._births is None or cgroup_fd is None:
            return await spawn(
                launch, listen_fd=listen_fd, output_fd=output_fd, notify_fd=notify_fd, cgroup_fd=cgroup_fd
            )
        given = _Given(output_fd, listen_fd, notify_fd, cgroup_fd)
        with contextlib.ExitStack() as held:
            try:  # by the time that it is asked the caller's may have been closed
                given = given.held(held)
            except OSError:
                return await given.fork(launch)
            try:
                return await self._ask(self._births, launch, given)
            except ForkError as error:
                log.info("The fork server did not fork; jlabd does.", reason=str(error))
                return await given.fork(launch)

    async def _ask(self, births: Births, launch: Launch, given: _Given) -> Process:
        """Have it started by the server. Raises ForkError if nothing was forked; SpawnError."""
        with contextlib.ExitStack() as ours:
            try:
                plan = _plan(launch, given, ours)
                channel, theirs = open_channel(ours)
            except OSError as error:
                raise ForkError(error.strerror or str(error), final=False) from error
            try:
                process = await births.birth(channel, theirs, given.cgroup)
            except ForkError as error:
                if error.final:
                    self._give_up(births, str(error))
                raise
            try:
                socket.send_fds(channel, [b"plan"], [plan, *given.for_program()])
                data = await read_to_end(channel.fileno())
            except BaseException as error:
                process.abandon()
                if isinstance(error, OSError):  # somebody has killed it already
                    raise refused_by_system(error) from error
                raise
        if data:
            process.abandon()
            raise refused_by_child(Report.decode(data), launch)
        return process

    def _give_up(self, births: Births, why: str) -> None:
        """Do without it from now on: it may be stuck, or not be able to here."""
        if self._births is births and self.process is not None:
            log.warning("jlabd forks by itself from now on: its fork server does not.", reason=why)
            births.close()
            self.process.abandon()
            self._births = self.process = None

    async def close(self) -> None:
        """End the process; what it has forked lives on. Asking twice is harmless."""
        births, process = self._births, self.process
        self._births = self.process = None
        if births is None or process is None:
            return
        births.close()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await wait_exit(process)
        except TimeoutError:
            process.abandon()


async def _run(control: int) -> Process:
    """Start the server with its end of the socket. Raises SpawnError, OSError."""
    launch = Launch(tuple(own_program("jlabd.warm.forking")), os.environ, cwd="", account=None, umask=0o077)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return await spawn(launch, listen_fd=None, output_fd=null, notify_fd=control)
    finally:
        os.close(null)


def _plan(launch: Launch, given: _Given, ours: contextlib.ExitStack) -> int:
    """Return an open file with the plan, which is too long for a message. Raises OSError, SpawnError."""
    plan = plan_start(launch, report=-1, output=given.output, listen=given.listen, notify=given.notify, cgroup=None)
    file = os.memfd_create("jlabd", os.MFD_CLOEXEC)
    ours.callback(os.close, file)
    with open(file, "wb", closefd=False) as content:
        pickle.dump(plan, content)
    return file
