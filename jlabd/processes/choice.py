"""Which keeper of process trees works here: found out by trying, because mounts and permissions promise much."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import structlog

from jlabd.processes import cgroup
from jlabd.processes.cgroup_trees import CgroupTrees, base_folder, make_leaf
from jlabd.processes.marked_trees import MarkedTrees

if TYPE_CHECKING:
    from collections.abc import Callable

    from jlabd.processes.tree import MemoryKill, TreeKeeper

log = structlog.get_logger()

_PROBE_TIMEOUT_S = 5.0
LABS_SUFFIX = "-labs.service"
"""How the unit is called that is there for the labs alone: jlabd-labs.service beside jlabd.service."""


def choose_trees(runtime_dir: str, tell: Callable[[MemoryKill], None] = lambda _: None) -> TreeKeeper:
    """Return cgroups if a leaf can really be made, joined and killed, else marks.

    With cgroups `tell` is told when the kernel kills for want of memory.
    To be called in the running loop, which it holds up for some 30 ms.
    """
    own = cgroup.own_folder()
    if own is None:
        log.info("There is no cgroup v2 here; processes are told apart by marks.")
        return MarkedTrees(runtime_dir)
    for folder in candidates(runtime_dir, own):
        try:
            _try_out(f"{base_folder(runtime_dir, folder)}/probe")
        except OSError as error:
            log.info("A cgroup cannot be used.", folder=folder, reason=str(error))
        else:
            return CgroupTrees(runtime_dir, folder, tell)
    log.info("No cgroup can be used; processes are told apart by marks.")
    return MarkedTrees(runtime_dir)


def candidates(runtime_dir: str, own: str) -> list[str]:
    """Return the cgroups below which the leaves may be, best first, for a daemon in the cgroup `own`.

    That is the one of the unit that is there for the labs alone (packaging/jlabd-labs.service), else our own unit's;
    but where an earlier daemon made leaves, there they stay.
    """
    unit = _unit_of(own)
    labs = f"{unit.removesuffix('.service')}{LABS_SUFFIX}"
    folders = [labs, unit] if unit.endswith(".service") and Path(labs).is_dir() else [unit]
    return sorted(folders, key=lambda folder: not Path(base_folder(runtime_dir, folder)).is_dir())


def _unit_of(own: str) -> str:
    """Return the unit's cgroup if systemd put us in one below it (DelegateSubgroup=, since 254), else our own."""
    above = str(Path(own).parent)
    try:
        delegated = above.endswith(".service") and os.getxattr(above, "user.delegate") == b"1"
    except OSError:
        delegated = False
    return above if delegated else own


def _try_out(leaf: str) -> None:
    """Put a child into the cgroup `leaf` and kill it there. Raises OSError if any of it fails."""
    descriptor = make_leaf(leaf)
    try:
        pid, pidfd, lifeline = _child_in(descriptor)
        try:
            _kill_and_see(leaf, pidfd)
        finally:
            lifeline.close()
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
            os.waitpid(pid, 0)
    finally:
        os.close(descriptor)
        cgroup.remove(leaf)
        with contextlib.suppress(OSError):  # others' leaves are there
            Path(leaf).parent.rmdir()


def _child_in(leaf: int) -> tuple[int, int, socket.socket]:
    """Fork a child that joins the cgroup; return its pid, pidfd and the socket whose closing ends it."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _join_and_wait(leaf, ours, theirs)
    theirs.close()
    pidfd = os.pidfd_open(pid)
    if ours.recv(1) == b"+":
        return pid, pidfd, ours
    ours.close()
    os.close(pidfd)
    os.waitpid(pid, 0)
    raise PermissionError("a process may not join")


def _join_and_wait(leaf: int, ours: socket.socket, theirs: socket.socket) -> NoReturn:
    """Be the child, until it is killed or the parent is gone; never return."""
    try:
        ours.close()
        procs = os.open("cgroup.procs", os.O_WRONLY, dir_fd=leaf)
        os.write(procs, b"0")
        theirs.send(b"+")
        theirs.recv(1)
    finally:
        os._exit(1)


def _kill_and_see(leaf: str, pidfd: int) -> None:
    cgroup.kill_all(leaf)
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    if not ended.poll(_PROBE_TIMEOUT_S * 1000):
        raise TimeoutError("a process in it could not be killed")
    Path(leaf).rmdir()
