"""The program of the fork server (`forkserver`): a small process without threads that forks for the daemon.

Descriptor 4 is a SOCK_SEQPACKET socket to the daemon. It says there that it is ready. Each message is then the number
of a wish, with two descriptors: the child's channel, and the folder of the cgroup that it is to be born in. It is
answered with the number and 0, or the error number of the fork. The child says on its channel that it is born, and gets
its plan there, pickled, because both ends are the same code of the same account; then it goes the same straight line as
a child of the daemon's own fork.

Ends when the daemon closes the socket, or dies.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import signal
import socket
from typing import NoReturn

from jlabd.core.launch import NOTIFY_FD
from jlabd.processes.child import Plan, Report, Stage, become
from jlabd.processes.clone import fork_sibling

READY = b"ready"
MESSAGE_SIZE = 4096
WISH, PLAN = 2, 4
"""Descriptors that come with a wish (channel, cgroup) and with a plan (itself, log, socket and pipe if any)."""


def main() -> None:
    """Fork until nobody wishes anything any more."""
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # what is meant for the daemon
        signal.signal(ending, signal.SIG_IGN)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write("jlabd-fork")
    control = socket.socket(fileno=NOTIFY_FD)
    control.send(READY)
    while True:
        number, (channel, cgroup) = _wish(control)
        outcome = 0
        try:
            if fork_sibling(cgroup) == 0:
                _live(channel)
        except OSError as error:
            outcome = error.errno or errno.EINVAL
        os.close(channel)
        os.close(cgroup)
        control.send(b"%s %d" % (number, outcome))


def _wish(control: socket.socket) -> tuple[bytes, list[int]]:
    data, given, _, _ = socket.recv_fds(control, MESSAGE_SIZE, WISH, socket.MSG_CMSG_CLOEXEC)
    if len(given) != WISH:  # nobody is there any more
        raise SystemExit
    return data, given


def _live(number: int) -> NoReturn:
    """Be the child: say so, get the plan, and become what it says. Never returns."""
    try:
        channel = socket.socket(fileno=number)
        channel.send(b"born")
        data, given, _, _ = socket.recv_fds(channel, MESSAGE_SIZE, PLAN, socket.MSG_CMSG_CLOEXEC)
        if data:  # else it was called off
            become(_plan(channel.detach(), given))
    except BaseException as error:  # noqa: BLE001  (a forked child has nobody to raise to; the daemon raises it)
        os.write(number, Report(Stage.DESCRIPTORS, 0, repr(error)).encode())
    finally:
        os._exit(127)


def _plan(report: int, given: list[int]) -> Plan:
    content, *given = given
    with open(content, "rb") as file:  # noqa: PTH123  (a descriptor, not a path)
        file.seek(0)
        plan: Plan = pickle.load(file)  # noqa: S301  (the daemon's own)
    plan.report, plan.output = report, given.pop(0)
    plan.listen = None if plan.listen is None else given.pop(0)
    plan.notify = None if plan.notify is None else given.pop(0)
    return plan


if __name__ == "__main__":
    main()
