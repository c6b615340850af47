"""The instances' listening sockets in the service manager's care (systemd's file descriptor store).

It holds a copy of each as long as the unit is not stopped, so that requests wait while no daemon runs, and hands them
to the next daemon at its start (sd_listen_fds(3)). Without such a manager all this does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from itertools import repeat

from jlabd.daemon.manager import notify

FIRST = 3
"""Number of the first descriptor that is handed over (SD_LISTEN_FDS_START)."""
PREFIX = "instance-"
"""Before an instance's name, which has only characters that are allowed in a descriptor's name (`config.words`)."""
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class FdStore:
    """Implements `front.listeners.Keeper`."""

    def __init__(self) -> None:
        self._received: set[str] = set()

    def receive(self) -> dict[str, int]:
        """Return the sockets that were kept, by instance; they are the caller's. To be called once in a process."""
        sockets: dict[str, int] = {}
        for label, descriptor in _handed_over():
            os.set_inheritable(descriptor, False)
            self._received.add(label)
            name = label.removeprefix(PREFIX)
            if label.startswith(PREFIX) and name not in sockets:
                sockets[name] = descriptor
            else:
                os.close(descriptor)
        return sockets

    def keep(self, name: str, sock: socket.socket) -> None:
        """Have a copy of the instance's socket kept, instead of the one that may have been kept before."""
        self.drop(name)
        notify("FDSTORE=1", f"FDNAME={PREFIX}{name}", "FDPOLL=0", descriptors=[sock.fileno()])

    def drop(self, name: str) -> None:
        """Have the instance's socket kept no more."""
        _remove(f"{PREFIX}{name}")

    def tidy(self, in_use: Iterable[str]) -> None:
        """Drop what was received and is not in use: the instance is gone, or the socket was none of ours."""
        for label in self._received - {f"{PREFIX}{name}" for name in in_use}:
            _remove(label)
        self._received.clear()


def _remove(label: str) -> None:
    notify("FDSTOREREMOVE=1", f"FDNAME={label}")


def _handed_over() -> Iterator[tuple[str, int]]:
    """Yield (label, descriptor) of what the service manager passed to this process, and forget the variables."""
    pid, count, labels = (os.environ.pop(variable, "") for variable in VARIABLES)
    if pid == str(os.getpid()) and count.isdigit():
        named = [*labels.split(":"), *repeat("", int(count))]
        yield from zip(named, range(FIRST, FIRST + int(count)), strict=False)
