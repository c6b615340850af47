"""`jlabctl status --watch`."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter

from jlabd.control.client import UnreachableError
from jlabd.control.wire import loads
from jlabd.ctl import terminal
from jlabd.ctl.status import ask, status, table_of
from jlabd.ctl.table import remarks
from jlabd.ctl.text import safe, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import Any

WATCH_S = 1.0

_OTHER_SCREEN, _BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_TOP, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K\n", "\x1b[J"


def watch(socket: str, names: Sequence[str], *, as_json: bool, colour: bool) -> int:
    """Show the instances again and again, until Ctrl-C; on a terminal in place, and while there is no daemon too."""
    if as_json or not terminal.can_rewrite(sys.stdout):
        while True:
            status(socket, names, as_json=as_json, colour=colour)
            time.sleep(WATCH_S)
    signal.signal(signal.SIGTERM, _terminated)
    sys.stdout.write(_OTHER_SCREEN)
    try:
        lines: list[str] = []
        while True:
            lines = _look(socket, names, lines, colour=colour)
            sys.stdout.write(_TOP + _REST_OF_LINE.join(lines) + _REST_OF_LINE + _REST)
            sys.stdout.flush()
            time.sleep(WATCH_S)
    finally:
        sys.stdout.write(_BACK)
        sys.stdout.flush()


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _look(socket: str, names: Sequence[str], before: list[str], *, colour: bool) -> list[str]:
    """Return the lines to show, as many as fit; without a daemon those of before, below what is the matter."""
    columns, height = terminal.columns() or 80, terminal.lines() or 24
    clock = time.strftime("%H:%M:%S")
    try:
        document = loads(ask(socket, names))
    except UnreachableError as error:
        return [shorten(f"{clock}  {safe(str(error))}", columns), *before[1:]]
    said = [shorten(remark, columns) for remark in remarks(document)]
    table = table_of(document, colour=colour).splitlines()
    room = max(2, height - len(said) - 2)
    if len(table) > room:
        table[room - 1 :] = [f"… {len(table) - room + 1} more"]
    return [shorten(f"{clock}  {_summary(document)}", columns), *said, *table]


def _summary(document: dict[str, Any]) -> str:
    counts = Counter(instance["state"] for instance in document["instances"])
    return ", ".join(f"{count} {state}" for state, count in counts.most_common()) or "no instances"
