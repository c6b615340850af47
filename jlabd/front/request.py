"""The head of a request: who asks, and for what; as far as the answers depend on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jlabd.between_us import PROBE_AGENT

PROGRESS_HEADER = "X-Jlabd-Progress"
"""What the script of our page sends: `1` to be told at once how the instance stands, `wait` when that changes."""

_REQUEST_LINE = re.compile(r"([A-Z]{1,20}) ([^ ]+) HTTP/1\.[01]")
_CONNECTION_FIELDS = frozenset({b"connection", b"keep-alive", b"proxy-connection"})
_FOLDS = (" ", "\t")


class BadRequestError(Exception):
    """What came is not the head of an HTTP/1 request."""


@dataclass(frozen=True, slots=True)
class Request:
    """The first line and the headers, whose names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def wants_page(self) -> bool:
        """Whether the answer will be looked at by a person, rather than by a script or the polling of an open tab."""
        mode = self.headers.get("sec-fetch-mode")
        return mode == "navigate" if mode else self._accepts_html and "x-requested-with" not in self.headers

    @property
    def is_navigation(self) -> bool:
        """Whether a person opens a page, now: no form that is sent, no frame, nothing that is fetched in advance."""
        return (
            self.method == "GET"
            and self.wants_page
            and self.headers.get("sec-fetch-dest", "document") == "document"
            and not self._in_advance
            and "upgrade" not in self.headers
        )

    @property
    def is_probe(self) -> bool:
        """Whether this is the daemon's own question to the server."""
        return self.headers.get("user-agent") == PROBE_AGENT

    @property
    def progress(self) -> str:
        """What the script of our page wants: `1`, `wait`, or nothing."""
        return self.headers.get(PROGRESS_HEADER.lower(), "") if self.method == "GET" else ""

    @property
    def upgrades(self) -> bool:
        """Whether the connection is to be used for something else than HTTP: a websocket, which lasts."""
        return "upgrade" in self.headers and "upgrade" in self.headers.get("connection", "").lower()

    def lies_under(self, base_url: str) -> bool:
        """Return whether the path is `base_url` (which ends in a slash) or below it."""
        path = self.target.partition("?")[0]
        return path.startswith(base_url) or path == base_url.rstrip("/")

    @property
    def _accepts_html(self) -> bool:
        return "text/html" in self.headers.get("accept", "")

    @property
    def _in_advance(self) -> bool:
        purposes = (self.headers.get(name, "") for name in ("sec-purpose", "purpose", "x-purpose", "x-moz"))
        return any("prefetch" in purpose or "preview" in purpose for purpose in purposes)


def parse(head: bytes) -> Request:
    """Read the head of a request, without the empty line that ends it. Raises BadRequestError."""
    first, *lines = head.decode("latin-1").split("\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None or any(line.startswith(_FOLDS) for line in lines):
        raise BadRequestError
    pairs = (line.partition(":") for line in lines)
    return Request(match[1], match[2], {name.strip().lower(): value.strip() for name, _, value in pairs})


def for_one_answer(received: bytes) -> bytes:
    """Return what was received of a request, with a head that asks the server to close the connection afterwards.

    A GET that is followed by something is left as it is: more requests wait for their answers there.
    """
    head, end, rest = received.partition(b"\r\n\r\n")
    if rest and head.startswith((b"GET ", b"HEAD ")):
        return received
    lines = head.split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in _CONNECTION_FIELDS]
    return b"\r\n".join([*kept, b"Connection: close"]) + end + rest
