"""One visitor of an instance that is not there: read the request, answer it, or hold it until the server can."""

from __future__ import annotations

import asyncio
import socket
from enum import Enum, auto
from http import HTTPStatus
from typing import Protocol

from jlabd.core.state import Actual
from jlabd.front import answers
from jlabd.front.passing import has_left
from jlabd.front.request import BadRequestError, Request, parse
from jlabd.front.standing import Standing

LARGEST_HEAD = 64 * 1024
CHUNK = 64 * 1024

PATIENCE_S = 2.0
"""So long a visitor waits for the server itself, when that usually comes within …"""
QUICK_S = 1.0
"""… this."""

NEWS_S = 5.0
"""So long the script of our page waits for news."""

LOOK_S = 1.0
"""How often somebody looks whether a client that is held is still there."""


class Turn(Enum):
    """What a visitor who is held learns."""

    READY = auto()  # the server answers
    REST = auto()  # it will not: say why
    CLOSING = auto()  # the daemon makes way for another: come again at once
    OVERDUE = auto()  # it takes too long for this visitor
    LEFT = auto()  # the client is gone


class Host(Protocol):
    """The stand-in that received the visitor."""

    name: str
    hold: bool
    turn: asyncio.Future[Turn]

    def standing(self) -> Standing:
        """Return how the instance stands now."""

    def visited(self) -> None:
        """Somebody wants the instance."""


async def read_head(connection: socket.socket) -> bytes:
    """Read the head of the request; empty when the client only looked in. Too long a head comes back cut."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    while b"\r\n\r\n" not in data and len(data) < LARGEST_HEAD:
        chunk = await loop.sock_recv(connection, CHUNK)
        if not chunk:
            break
        data += chunk
    return bytes(data)


def understand(received: bytes) -> Request | bytes:
    """Return the request, or the refusal of what is none."""
    head, end, _ = received.partition(b"\r\n\r\n")
    if not end and len(received) >= LARGEST_HEAD:
        return answers.refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    try:
        return parse(head)
    except BadRequestError:
        return answers.refusal(HTTPStatus.BAD_REQUEST)


async def receive(host: Host, connection: socket.socket, request: Request) -> bytes | None:
    """Return the answer; None when the server itself is to answer. Holds the visitor until either is clear.

    The answer is empty when the client is gone.
    """
    if request.is_probe:
        return answers.not_accepting()
    if request.progress:
        return await _progress(host, connection, request)
    if request.is_navigation:
        return await _navigation(host, connection, request)
    if not host.hold:
        return answers.at_rest(host.name, host.standing(), request)
    return _after(await _hold(host, connection), host, request)


async def _progress(host: Host, connection: socket.socket, request: Request) -> bytes:
    if request.progress == "wait" and host.hold and await _hold(host, connection, NEWS_S) is Turn.LEFT:
        return b""
    return answers.progress(host.name, host.standing())


async def _navigation(host: Host, connection: socket.socket, request: Request) -> bytes | None:
    """Give a person the page, unless the server comes sooner than she could read it."""
    if woken := request.lies_under(host.standing().base_url):
        host.visited()
    standing = host.standing()
    comes = host.hold or (woken and standing.will_wake)
    match await _hold(host, connection, patience(standing) if comes else 0):
        case Turn.READY:
            return None
        case Turn.LEFT:
            return b""
        case _:
            return answers.page(host.name, host.standing(), woken=woken)


def _after(turn: Turn, host: Host, request: Request) -> bytes | None:
    match turn:
        case Turn.READY:
            return None
        case Turn.LEFT:
            return b""
        case Turn.CLOSING:
            return answers.problem(host.name, host.standing(), retry_s=1, with_body=request.method != "HEAD")
        case _:
            return answers.at_rest(host.name, host.standing(), request)


def patience(standing: Standing) -> float:
    """Return for how many seconds a visitor should wait for the server rather than be told anything."""
    if standing.expected_s is None or standing.expected_s > QUICK_S:
        return 0.0
    return PATIENCE_S - standing.since_s if standing.state == Actual.STARTING else PATIENCE_S


async def _hold(host: Host, connection: socket.socket, at_most_s: float = float("inf")) -> Turn:
    """Wait for the visitor's turn. Her further bytes stay where they are: in the kernel, and with the client."""
    loop, turn = asyncio.get_running_loop(), host.turn
    end = loop.time() + at_most_s
    while not turn.done():
        left_s = end - loop.time()
        if left_s <= 0:
            return Turn.OVERDUE
        if has_left(connection):
            return Turn.LEFT
        await asyncio.wait((turn,), timeout=min(left_s, LOOK_S))
    return turn.result()
