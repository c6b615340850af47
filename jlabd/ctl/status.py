"""`jlabctl status`."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

from jlabd.control.client import request
from jlabd.control.wire import loads, quote
from jlabd.ctl import terminal
from jlabd.ctl.failure import DONE, NOT_AS_DESIRED
from jlabd.ctl.table import remarks, table
from jlabd.status.desired import all_as_desired

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

WATCH_S = 1.0
_HOME_AND_CLEAR = "\x1b[H\x1b[J"


def status(socket: str, names: Sequence[str], *, as_json: bool, colour: bool, clear: bool = False) -> int:
    """Show the instances once; `clear` empties the terminal first."""
    body = _ask(socket, names)
    document = loads(body)
    shown = _json(body, document) if as_json else _table(document, colour=colour)
    sys.stdout.write(_HOME_AND_CLEAR + shown if clear else shown)
    sys.stdout.flush()
    for remark in () if as_json else remarks(document):
        print(remark, file=sys.stderr)
    return DONE if all_as_desired(document) else NOT_AS_DESIRED


def watch(socket: str, names: Sequence[str], *, as_json: bool, colour: bool) -> int:
    """Show the instances again and again, until Ctrl-C."""
    import time

    while True:
        status(socket, names, as_json=as_json, colour=colour, clear=sys.stdout.isatty() and not as_json)
        time.sleep(WATCH_S)


def _table(document: dict[str, Any], *, colour: bool) -> str:
    return table(document, datetime.now(UTC), terminal.columns(), colour=terminal.colour(allowed=colour))


def _ask(socket: str, names: Sequence[str]) -> bytes:
    query = "&".join(f"name={quote(name)}" for name in names)
    return request(socket, "GET", f"/status?{query}" if query else "/status").read()


def _json(body: bytes, document: dict[str, Any]) -> str:
    """Return the document for a program as it came, for a person with line breaks."""
    if not sys.stdout.isatty():
        return body.decode()
    import json

    return json.dumps(document, indent=2) + os.linesep
