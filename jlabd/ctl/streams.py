"""`jlabctl logs` and `jlabctl events`: what comes as it comes."""

from __future__ import annotations

import os
import sys

from jlabd.control.client import ANSWER_S, UnreachableError, request
from jlabd.control.wire import loads, quote
from jlabd.ctl.failure import DONE
from jlabd.ctl.text import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def logs(socket: str, name: str, *, lines: int, follow: bool) -> int:
    """Write the end of an instance's log, byte for byte, and go on with what is added if that is wanted."""
    target = f"/logs/{quote(name)}?lines={lines}{'&follow=1' if follow else ''}"
    reply = request(socket, "GET", target, timeout=None if follow else ANSWER_S)
    for chunk in reply.chunks():
        _write(chunk)
    return _ended(follow=follow)


def _write(data: bytes) -> None:
    """Write all of it at once, unbuffered: a reader at the other end of a pipe sees each line when it comes."""
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


def events(socket: str, *, lines: int, follow: bool, as_json: bool) -> int:
    """Show the last events, and go on with the next if that is wanted."""
    target = f"/events?lines={lines}{'&follow=1' if follow else ''}"
    reply = request(socket, "GET", target, timeout=None if follow else ANSWER_S)
    for line in reply.lines():
        _write((line if as_json else _sentence(loads(line)).encode(errors="backslashreplace")) + b"\n")
    return _ended(follow=follow)


def _sentence(event: dict[str, Any]) -> str:
    from datetime import datetime

    time = datetime.fromisoformat(event["time"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    whom = event["instance"] or "jlabd"
    what = event["state"] or event["kind"]
    return safe(f"{time}  {whom}  {what}  {event['reason']}")


def _ended(*, follow: bool) -> int:
    """Return that all is well, unless it was to be followed, which has no end of its own."""
    if follow:
        raise UnreachableError("jlabd hung up")
    return DONE
