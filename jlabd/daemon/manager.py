"""The service manager, when there is one: what it is told (sd_notify(3), over its socket), and its watchdog."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence

import structlog

log = structlog.get_logger()

SEND_TIMEOUT_S = 1.0
"""A service manager that does not even read must not hold up the daemon for longer."""


def notify(*assignments: str, descriptors: Sequence[int] = ()) -> None:
    """Send assignments such as `READY=1`, and copies of `descriptors`, to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(SEND_TIMEOUT_S)
            sender.connect(address)
            socket.send_fds(sender, ["\n".join(assignments).encode()], descriptors)
    except OSError as error:
        log.warning("The service manager could not be told.", error=str(error))


def watchdog_interval_s() -> float | None:
    """Return how often WATCHDOG=1 is due: half of what the unit allows, None without a watchdog."""
    pid = os.environ.get("WATCHDOG_PID")
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or pid not in {None, str(os.getpid())}:
        return None
    return int(microseconds) / 2e6


async def feed_watchdog() -> None:
    """Tell the service manager for ever that the event loop turns."""
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)
