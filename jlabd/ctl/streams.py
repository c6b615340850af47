"""`jlabctl logs` and `jlabctl events`: what comes as it comes."""

from __future__ import annotations

import os
import sys

from jlabd.control.client import ANSWER_S, Reply, UnreachableError, request
from jlabd.control.wire import loads, quote
from jlabd.ctl.failure import DONE
from jlabd.ctl.text import safe

PATIENCE_S = 15.0
"""How long a follower waits for a daemon that went away: one that is restarted or replaced is back by then."""
MANY_LINES = 10_000
"""Asked for after such an interruption; what was seen already is left out."""
OVERLAP = 4096
"""Bytes by which the place in a log is found again."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def logs(socket: str, name: str, *, lines: int, follow: bool) -> int:
    """Write the end of an instance's log, byte for byte, and go on with what is added if that is wanted."""
    target = f"/logs/{quote(name)}?lines={{}}{'&follow=1' if follow else ''}"
    seen = b""
    for number, reply in enumerate(_replies(socket, target, lines, follow=follow)):
        for chunk in _until_it_hangs_up(reply.chunks(), follow=follow):
            new = _after(seen, chunk) if number and seen else chunk
            _write(new)
            seen = (seen + new)[-OVERLAP:]
    return DONE


def _after(seen: bytes, again: bytes) -> bytes:
    """Return what of `again`, the log's end as a new daemon tells it, comes after what was `seen` last."""
    _, found, new = again.rpartition(seen)
    return new if found else again


def _replies(socket: str, target: str, lines: int, *, follow: bool) -> Iterator[Reply]:
    """Yield the answer; when following, one answer after the other: the daemon may be replaced meanwhile."""
    import time

    yield request(socket, "GET", target.format(lines), timeout=None if follow else ANSWER_S)
    lost_at = time.monotonic()
    while follow:
        try:
            yield request(socket, "GET", target.format(MANY_LINES), timeout=None)
            lost_at = time.monotonic()
        except UnreachableError:
            if time.monotonic() - lost_at > PATIENCE_S:
                raise
        time.sleep(0.2)


def _until_it_hangs_up(pieces: Iterator[bytes], *, follow: bool) -> Iterator[bytes]:
    try:
        yield from pieces
    except UnreachableError:
        if not follow:
            raise


def _write(data: bytes) -> None:
    """Write all of it at once, unbuffered: a reader at the other end of a pipe sees each line when it comes."""
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


def events(socket: str, *, lines: int, follow: bool, as_json: bool) -> int:
    """Show the last events, and go on with the next if that is wanted."""
    target = f"/events?lines={{}}{'&follow=1' if follow else ''}"
    last = ""
    for number, reply in enumerate(_replies(socket, target, lines, follow=follow)):
        for line in _until_it_hangs_up(reply.lines(), follow=follow):
            event = loads(line)
            if number and event["time"] <= last:
                continue
            last = event["time"]
            _write((line if as_json else _sentence(event).encode(errors="backslashreplace")) + b"\n")
    return DONE


def _sentence(event: dict[str, Any]) -> str:
    from datetime import datetime

    time = datetime.fromisoformat(event["time"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    whom = event["instance"] or "jlabd"
    what = event["state"] or event["kind"]
    return safe(f"{time}  {whom}  {what}  {event['reason']}")
