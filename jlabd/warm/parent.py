"""One warm parent, as the daemon sees it: a child that imports, and from then on answers each wish with a lab.

The lab becomes the daemon's own child, because the daemon is the reaper of its descendants and the process between
parent and lab ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any, Self

from jlabd.core.launch import Launch
from jlabd.processes.child import Report
from jlabd.processes.exits import wait_exit
from jlabd.processes.marks import realtime_limit
from jlabd.processes.refusals import refused_by_child
from jlabd.processes.spawn import Process, complete_environment, must_switch
from jlabd.warm.birth import Births, Descriptors, begin_forker, receive

ANSWER_TIMEOUT_S = 10.0
"""For a fork, also on a machine that is busy with something else."""
FAREWELL_S = 1.0
"""For labs that are on their way, and for a parent to end when its socket was closed."""
REPORT_SIZE = 4 * 1024 * 1024
"""Bytes that are read of what a parent says when it has imported."""
SAID_SIZE = 400
"""Characters that are quoted of what was printed at import."""


class UnfitError(Exception):
    """No labs can be forked; the text is a clause that says why."""


class WarmParent:
    """A process that has imported JupyterLab, or is about to. Made by `begin`, ended by `end`."""

    def __init__(
        self, tree: str, process: Process, control: socket.socket, output: int, env: Mapping[str, str]
    ) -> None:
        self._env = env
        self.tree = tree
        """Under which name its processes are kept."""
        self.process = process
        self._births = Births(control, ANSWER_TIMEOUT_S)
        self._output = output
        self._under_way = 0
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self.folders: frozenset[str] = frozenset()
        """Where it has imported from."""
        self.variables: dict[str, str | None] = {}
        """What the import has read of the environment, and what it has found."""

    @classmethod
    async def begin(cls, tree: str, launch: Launch, cgroup_fd: int | None) -> Self:
        """Run a parent and return it; it is not ready before `imported`. Raises SpawnError, OSError."""
        output = os.memfd_create("jlabd", os.MFD_CLOEXEC)
        try:
            process, control = await begin_forker(launch, output, cgroup_fd)
        except BaseException:
            os.close(output)
            raise
        return cls(tree, process, control, output, launch.env)

    async def imported(self, timeout_s: float) -> None:
        """Return when it has imported. Raises UnfitError: it is of no use then."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._imported()
        except TimeoutError:
            raise UnfitError(f"importing it takes more than {timeout_s:g} s") from None

    async def _imported(self) -> None:
        data, files = await _receive_file(self._births.control)
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
        process, data = await self._births.start(plan, descriptors.there())
        if data.startswith(b"cold\0"):
            return process, _printable(data[5:].decode(errors="replace"))
        if data:
            process.abandon()
            raise refused_by_child(Report.decode(data), launch)
        return process, ""

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        try:
            return self.process.pidfd >= 0 and self._births.is_open
        except OSError:
            return False

    async def rest(self) -> None:
        """Return when no lab is on its way, or takes its time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self._at_rest.wait()

    async def end(self) -> None:
        """End the process; the labs live on. Asking twice is harmless."""
        self._births.close()
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


async def _receive_file(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Return the next message and the descriptors that come with it, which are the caller's."""
    data, ancillary = await receive(channel, struct.calcsize("i"))
    rights = [content for level, kind, content in ancillary if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)]
    return data, [number for content in rights for (number,) in struct.iter_unpack("i", content)]


def _quoted(said: str) -> str:
    """Return the last line of what was said, printable, to follow a clause."""
    line = said.splitlines()[-1] if said else ""
    return f": {_printable(line)}" if line else ""


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:SAID_SIZE]
