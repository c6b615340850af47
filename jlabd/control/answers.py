"""What the routes of the control socket are made of: reading what was asked, checking it, answering."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from jlabd.control.authorize import Caller, may, may_administer
from jlabd.control.supervisor import Supervisor

BODY_S = 10.0
"""The longest that a client may take to send its request's body."""
MOST_LINES = 1_000_000


class Refusal(Exception):  # noqa: N818  (an answer, not a fault)
    """The request is answered with HTTP `status` and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def problem(status: int, detail: str, **headers: str) -> web.Response:
    """Return an error as application/problem+json (RFC 9457)."""
    title = web.Response(status=status).reason
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return web.Response(status=status, body=line(body), content_type="application/problem+json", headers=headers)


def answer(value: Any, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(status=status, body=line(value), content_type="application/json")


def line(value: Any) -> bytes:
    """Return `value` as one line of JSON."""
    return json.dumps(value).encode() + b"\n"


async def stream(request: web.Request, content_type: str) -> web.StreamResponse:
    """Begin an answer that grows."""
    response = web.StreamResponse(headers={"Content-Type": content_type})
    await response.prepare(request)
    return response


async def body_of(request: web.Request) -> dict[str, Any]:
    """Return the JSON object that came with the request. Raises Refusal."""
    try:
        async with asyncio.timeout(BODY_S):
            body = json.loads(await request.read() or b"{}")
    except TimeoutError:
        raise Refusal(408, "the request did not come to its end") from None
    except (ValueError, RecursionError):
        raise Refusal(400, "the request is not JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "the request is not a JSON object")
    return body


def boolean(body: dict[str, Any], key: str, default: bool) -> bool:
    """Return a boolean of the request. Raises Refusal."""
    value = body.get(key, default)
    if not isinstance(value, bool):
        raise Refusal(400, f'"{key}" must be true or false')
    return value


def text(body: dict[str, Any], key: str) -> str:
    """Return a text of the request that must be there. Raises Refusal."""
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise Refusal(400, f'"{key}" must be a text')
    return value


def lines_wanted(request: web.Request, default: int) -> int:
    """Return the number of lines that the query asks for. Raises Refusal."""
    value = request.query.get("lines", str(default))
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        raise Refusal(400, "lines must be a number")
    return min(int(value), MOST_LINES)


def check_known(supervisor: Supervisor, names: Iterable[str]) -> None:
    """Raise Refusal for the first name that no instance has."""
    known = supervisor.names()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name[:64], known, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise Refusal(404, f"no instance '{name}'{hint}")


def check_allowed(supervisor: Supervisor, caller: Caller, verb: str, names: Iterable[str]) -> None:
    """Raise Refusal for the first name to whose instance `caller` may not do `verb`."""
    for name in names:
        owner = supervisor.owner(name)
        if not may(caller, verb, owner):
            raise Refusal(403, f"{caller.user} may not {SAID[verb]} '{name}': {_who_may(verb, owner)}")


def check_administrator(caller: Caller, what: str) -> None:
    """Raise Refusal unless `caller` is an administrator."""
    if not may_administer(caller):
        raise Refusal(403, f"{caller.user} may not {what}: only administrators may")


def _who_may(verb: str, owner: str | None) -> str:
    if owner is None or verb == "signal":
        return "only administrators may"
    return f"only {owner} and administrators may"


SAID = {
    "start": "start",
    "stop": "stop",
    "restart": "restart",
    "signal": "signal",
    "logs": "read the log of",
    "url": "ask for the address of",
    "passwd": "set the password of",
}
"""Verb → how a sentence says it."""
