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


def status(socket: str, names: Sequence[str], *, as_json: bool, colour: bool) -> int:
    """Show the instances once."""
    body = ask(socket, names)
    document = loads(body)
    sys.stdout.write(_json(body, document) if as_json else table_of(document, colour=colour))
    sys.stdout.flush()
    for remark in () if as_json else remarks(document):
        print(remark, file=sys.stderr)
    return DONE if all_as_desired(document) else NOT_AS_DESIRED


def table_of(document: dict[str, Any], *, colour: bool) -> str:
    """Return the table for stdout as it is."""
    return table(document, datetime.now(UTC), terminal.columns(), colour=terminal.colour(allowed=colour))


def ask(socket: str, names: Sequence[str]) -> bytes:
    """Return the status document of the named instances (none: of all). Raises UnreachableError, ProblemError."""
    query = "&".join(f"name={quote(name)}" for name in names)
    return request(socket, "GET", f"/status?{query}" if query else "/status").read()


def _json(body: bytes, document: dict[str, Any]) -> str:
    """Return the document for a program as it came, for a person with line breaks."""
    if not sys.stdout.isatty():
        return body.decode()
    import json

    return json.dumps(document, indent=2) + os.linesep
