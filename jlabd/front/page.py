"""What a visitor is told while nothing of an instance runs: a page for people, JSON for programs."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from jlabd.core.state import Actual

RETRY_SOON_S = 5
RETRY_LATER_S = 30

_REQUEST_LINE = re.compile(r"([A-Z]{1,20}) [^ ]+ HTTP/1\.[01]")
_ON_THE_WAY = frozenset({Actual.STARTING, Actual.BACKOFF, Actual.STOPPING})

_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 36rem; margin: 15vh auto 0; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
p { overflow-wrap: anywhere; }
.state { display: inline-block; padding: 0 .6rem; border: 1px solid; border-radius: 1rem; font-weight: normal; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{retry_s}">
<title>{name}: {state}</title>
<style>{style}</style>
</head>
<body>
<h1>{name} <span class="state">{state}</span></h1>
<p>{reason}</p>
<p>This page tries again every {retry_s} seconds.</p>
</body>
</html>
"""


class BadRequestError(Exception):
    """What came is not the head of an HTTP/1 request."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How an instance stands: its state, and the reason in a sentence."""

    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """As much of a request as the answer depends on. Names of headers are in lower case."""

    method: str
    headers: Mapping[str, str]

    @property
    def is_navigation(self) -> bool:
        """A person waits for a page; not a script, and not the polling of a tab that is open."""
        mode = self.headers.get("sec-fetch-mode")
        return mode == "navigate" if mode else "text/html" in self.headers.get("accept", "")


def parse(head: bytes) -> Request:
    """Read the head of a request, without the empty line that ends it. Raises BadRequestError."""
    first, *lines = head.decode("latin-1").split("\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise BadRequestError
    pairs = (line.partition(":") for line in lines)
    return Request(match[1], {name.strip().lower(): value.strip() for name, _, value in pairs})


def answer(name: str, standing: Standing, request: Request) -> bytes:
    """Return the whole response: 503 with the state and the reason of the instance `name`."""
    retry_s = RETRY_SOON_S if standing.state in _ON_THE_WAY else RETRY_LATER_S
    kind, body = _page(name, standing, retry_s) if request.is_navigation else _problem(name, standing)
    headers = {
        "Content-Type": kind,
        "Retry-After": str(retry_s),
        "Content-Security-Policy": _POLICY,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept, Sec-Fetch-Mode",
    }
    return _response(HTTPStatus.SERVICE_UNAVAILABLE, headers, body, with_body=request.method != "HEAD")


def refusal(status: HTTPStatus) -> bytes:
    """Return the whole response to something that was not understood."""
    return _response(status, {"Content-Type": "text/plain; charset=utf-8"}, f"{status.phrase}.\n".encode())


def _page(name: str, standing: Standing, retry_s: int) -> tuple[str, bytes]:
    texts = {"name": name, "state": standing.state, "reason": standing.reason}
    escaped = {key: html.escape(text) for key, text in texts.items()}
    return "text/html; charset=utf-8", _PAGE.format(**escaped, style=_STYLE, retry_s=retry_s).encode(errors="replace")


def _problem(name: str, standing: Standing) -> tuple[str, bytes]:
    document = {
        "type": "about:blank",
        "title": f"{name}: {standing.state}",
        "status": HTTPStatus.SERVICE_UNAVAILABLE.value,
        "detail": standing.reason,
        "state": standing.state,
        "reason": standing.reason,
    }
    return "application/problem+json", json.dumps(document).encode()


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
