"""What a visitor of an instance that is not there gets: a page for people, JSON for programs. Whole responses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from jlabd.between_us import NOT_ACCEPTING
from jlabd.core.state import Actual
from jlabd.front.request import PROGRESS_HEADER, Request
from jlabd.front.standing import Standing, tell
from jlabd.look import Page

STATE_HEADER = "X-Jlabd-State"
"""In all of these answers, and so in none of the instance's own."""

RETRY_SOON_S = 5
RETRY_LATER_S = 30

_ON_THE_WAY = frozenset({Actual.STARTING, Actual.READY, Actual.UNHEALTHY, Actual.BACKOFF, Actual.STOPPING})
_PAGE = Page("jlabd.front", "standing")


def page(name: str, standing: Standing, *, woken: bool = False, with_body: bool = True) -> bytes:
    """Return the page that says how the instance `name` stands. `woken`: this visit has just asked for it."""
    story = tell(name, standing, woken=woken)
    text = _PAGE.render(
        name=name, standing=standing, story=story, facts=_facts(name, standing, woken=woken), progress=PROGRESS_HEADER
    )
    headers = {
        "Content-Security-Policy": _PAGE.policy,
        "Content-Type": "text/html; charset=utf-8",
        **_common(standing),
    }
    return _response(HTTPStatus.SERVICE_UNAVAILABLE, headers, text.encode(errors="replace"), with_body=with_body)


def problem(name: str, standing: Standing, *, retry_s: int | None = None, with_body: bool = True) -> bytes:
    """Return the problem document (RFC 9457) that says why the instance `name` does not answer."""
    document = {
        "type": "about:blank",
        "title": f"{name}: {standing.state}",
        "status": HTTPStatus.SERVICE_UNAVAILABLE.value,
        "detail": standing.reason,
        "state": standing.state,
        "reason": standing.reason,
    }
    headers = {"Content-Type": "application/problem+json", **_common(standing)}
    if retry_s is not None:
        headers["Retry-After"] = str(retry_s)
    return _response(HTTPStatus.SERVICE_UNAVAILABLE, headers, json.dumps(document).encode(), with_body=with_body)


def progress(name: str, standing: Standing) -> bytes:
    """Return what the script of our page asks for: how the instance stands, with the words for it."""
    headers = {"Content-Type": "application/json", **_common(standing)}
    return _response(HTTPStatus.SERVICE_UNAVAILABLE, headers, json.dumps(_facts(name, standing)).encode())


def at_rest(name: str, standing: Standing, request: Request, *, woken: bool = False) -> bytes:
    """Return what suits the request: the page, or the problem document."""
    with_body = request.method != "HEAD"
    if request.wants_page:
        return page(name, standing, woken=woken, with_body=with_body)
    return problem(name, standing, with_body=with_body)


def not_accepting() -> bytes:
    """Return the whole response to the daemon's own probe."""
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    return _response(HTTPStatus.SERVICE_UNAVAILABLE, headers, NOT_ACCEPTING.encode())


def refusal(status: HTTPStatus) -> bytes:
    """Return the whole response to something that was not understood."""
    return _response(status, {"Content-Type": "text/plain; charset=utf-8"}, f"{status.phrase}.\n".encode())


def _facts(name: str, standing: Standing, *, woken: bool = False) -> dict[str, Any]:
    return {"name": name, **asdict(standing), **asdict(tell(name, standing, woken=woken))}


def _common(standing: Standing) -> dict[str, str]:
    retry_s = RETRY_SOON_S if standing.state in _ON_THE_WAY else RETRY_LATER_S
    if standing.state == Actual.BACKOFF and standing.next_start_s is not None:
        retry_s = max(1, math.ceil(standing.next_start_s))
    return {
        STATE_HEADER: standing.state.encode("ascii", "replace").decode(),
        "Retry-After": str(retry_s),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Vary": f"Accept, Sec-Fetch-Mode, Sec-Fetch-Dest, {PROGRESS_HEADER}",
    }


def _response(status: HTTPStatus, headers: Mapping[str, str], body: bytes, *, with_body: bool = True) -> bytes:
    fields = {
        "Date": formatdate(usegmt=True),
        "Connection": "close",
        "Cache-Control": "no-store",
        "Content-Length": str(len(body)),
        **headers,
    }
    head = "".join(f"{key}: {value}\r\n" for key, value in fields.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode("latin-1") + (body if with_body else b"")
