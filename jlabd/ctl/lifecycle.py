"""`jlabctl start`, `stop` and `restart`."""

from __future__ import annotations

import sys

from jlabd.control.client import UnreachableError, request
from jlabd.control.wire import loads
from jlabd.ctl.failure import DONE, FAILED
from jlabd.ctl.text import safe
from jlabd.ctl.waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def ask(socket: str, verb: str, names: Sequence[str], *, wait: bool, timeout_s: float | None) -> int:
    """Start, stop or restart the named instances (none: all), and wait for it unless that is not wanted."""
    wish = {"names": list(names)} if names else {"all": True}
    with Waiting(f"the {verb} of {_said(names)}") as waiting:
        reply = request(socket, "POST", f"/{verb}", wish | {"wait": wait, "timeout": timeout_s}, timeout=None)
        for line in reply.lines():
            message = loads(line)
            if "done" in message:
                break
            waiting.say(f"{message['progress']}: {message['state']}: {message['reason']}")
        else:
            raise UnreachableError(
                "jlabd went away in the meantime; what was asked for may still happen: jlabctl status"
            )
    return _judge(verb, message["done"])


def _said(names: Sequence[str]) -> str:
    return "all" if not names else " and ".join(names) if len(names) < 3 else f"{len(names)} instances"


def _judge(verb: str, results: Sequence[dict[str, Any]]) -> int:
    bad = [result for result in results if not result["ok"]]
    for result in bad:
        print(safe(f"jlabctl: {verb} {result['name']}: {result['state']}: {result['reason']}"), file=sys.stderr)
    if not results:
        print("jlabctl: there are no instances", file=sys.stderr)
    return FAILED if bad else DONE
