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
from dataclasses import astuple, replace

import structlog

from jlabd.core.launch import Launch
from jlabd.ourselves import own_program
from jlabd.processes.child import Report
from jlabd.processes.exits import wait_exit
from jlabd.processes.refusals import SpawnError, refused_by_child
from jlabd.processes.spawn import Process, plan_start, spawn
from jlabd.warm.birth import Births, Descriptors, ForkError, begin_forker, receive

log = structlog.get_logger()

BEGIN_S = 60.0
"""For it to be ready; until then the daemon forks."""
PATIENCE_S = 2.0
"""For a fork: well below what emptying a private folder may take."""
FAREWELL_S = 1.0
"""For it to end when its socket was closed."""


class ForkServer:
    """Forks programs into cgroups. To be used in the running event loop."""

    def __init__(self) -> None:
        self._births: Births | None = None
        self.process: Process | None = None
        """The server, while it works."""

    async def begin(self) -> None:
        """Run the process. If that fails it is said, and everything goes on without it."""
        launch = Launch(tuple(own_program("jlabd.warm.forking")), os.environ, cwd="", account=None, umask=0o077)
        try:
            with open(os.devnull, "r+b") as null:  # noqa: ASYNC230, PTH123  (no disk)
                process, control = await begin_forker(launch, null.fileno())
            try:
                async with asyncio.timeout(BEGIN_S):
                    await receive(control, 0)  # that it is ready, or that it has ended: then it will not answer
            except BaseException:
                control.close()
                process.abandon()
                raise
        except (OSError, SpawnError) as error:
            why = str(error) or "it takes too long"
            log.warning("jlabd forks by itself: its fork server cannot be started.", error=why)
        else:
            self.process, self._births = process, Births(control, PATIENCE_S)
            asyncio.get_running_loop().add_reader(process.pidfd, self._died, self._births)

    def _died(self, births: Births) -> None:
        self._give_up(births, "it has ended")

    @property
    def works(self) -> bool:
        """Whether it is there, and has not failed."""
        return self._births is not None

    async def spawn(self, launch: Launch, descriptors: Descriptors) -> Process:
        """Do as `processes.spawn.spawn` does: by the fork server if that can be, else by a fork of the daemon's own."""
        births = self._births
        if births is None or descriptors.cgroup is None:
            return await _fork(launch, descriptors)
        with contextlib.ExitStack() as held:
            try:  # by the time that it is asked the caller's may have been closed
                descriptors = _held(descriptors, held)
            except OSError:
                return await _fork(launch, descriptors)
            try:
                return await self._ask(births, launch, descriptors)
            except (ForkError, OSError) as error:
                log.info("The fork server did not fork; jlabd does.", reason=str(error))
                return await _fork(launch, descriptors)

    async def _ask(self, births: Births, launch: Launch, descriptors: Descriptors) -> Process:
        """Have it started by the server. Raises ForkError or OSError if nothing was forked; SpawnError."""
        output, listen, notify, cgroup = astuple(descriptors)
        # None: it is born in its cgroup.
        plan = plan_start(launch, report=-1, output=output, listen=listen, notify=notify, cgroup=None)
        inherited = replace(descriptors, cgroup=None).there()
        try:
            process, data = await births.start(pickle.dumps(plan), inherited, cgroup)
        except ForkError as error:
            if error.final:
                self._give_up(births, str(error))
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


async def _fork(launch: Launch, descriptors: Descriptors) -> Process:
    """Start the program by a fork of the daemon's own. Raises SpawnError."""
    return await spawn(
        launch,
        listen_fd=descriptors.listen,
        output_fd=descriptors.output,
        notify_fd=descriptors.notify,
        cgroup_fd=descriptors.cgroup,
    )


def _held(descriptors: Descriptors, held: contextlib.ExitStack) -> Descriptors:
    """Return the same open files under numbers of our own. Raises OSError."""

    def own(number: int | None) -> int | None:
        if number is None:
            return None
        copy = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 0)
        held.callback(os.close, copy)
        return copy

    output = own(descriptors.output)
    assert output is not None
    return Descriptors(output, own(descriptors.listen), own(descriptors.notify), own(descriptors.cgroup))
