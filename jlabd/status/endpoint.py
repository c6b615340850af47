"""The local HTTP endpoint (`status_listen`): read-only, for monitoring and for people.

| route          | answer                                                                        |
|----------------|-------------------------------------------------------------------------------|
| `/`            | a page for people                                                             |
| `/events`      | what changes, as server-sent events; see `stream`                             |
| `/healthz`     | 200 `ok`; 503 with the reason while the daemon is not well, or stopping       |
| `/status`      | the status document                                                           |
| `/status/NAME` | the entry of one instance                                                     |
| `/metrics`     | the same in numbers, for Prometheus                                           |

GET and HEAD, nothing else. Whoever can open the address may read all of it, so it tells no secret. A web page that a
browser on this machine shows must not be able to read it: no CORS header is ever sent, and a request whose Host is not
a name of this machine is refused (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

from aiohttp import hdrs, web

from jlabd.spec import Listen, TcpListen, UnixListen
from jlabd.status.page import POLICY, render
from jlabd.status.stream import Broadcast
from jlabd.unixsocket import UnixListener, adopt_unix, listen_unix

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MOST_CONNECTIONS = 64
IDLE_S = 10.0
"""A connection on which nothing is asked for so long is closed."""

PAGE_S = 1.0
"""For so long the page is not made anew, whoever asks: for hundreds of labs that takes a while."""

POLICY_HEADER = "Content-Security-Policy"
SAFE_HEADERS = {
    "Cache-Control": "no-store",
    POLICY_HEADER: "default-src 'none'",
    "Server": "jlabd",
    "X-Content-Type-Options": "nosniff",
}
READS = ("GET", "HEAD")
FOREIGN = ("cross-site", "same-site")
"""A browser that asks on behalf of somebody else's page says so. It could not read the answer, but take up our time."""
LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")


class Endpoint:
    """The listening endpoint.

    `document` returns the status document, `health` whether the daemon is well and a sentence that says why not,
    `metrics` what Prometheus reads and its content type, for an Accept header; `broadcast` tells what changes.
    """

    def __init__(
        self,
        listen: Listen,
        document: Callable[[], dict[str, Any]],
        health: Callable[[], tuple[bool, str]],
        metrics: Callable[[str], tuple[bytes, str]],
        broadcast: Broadcast,
    ) -> None:
        self._listen = listen
        self._broadcast = broadcast
        self._metrics_for = metrics
        self._document = document
        self._health = health
        self._page_text, self._page_made_at = b"", float("-inf")
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=IDLE_S,
            shutdown_timeout=1,
            handler_cancellation=True,
        )
        self._named: UnixListener | None = None
        self._server: asyncio.Server | None = None
        self._listener: socket.socket | None = None
        """A descriptor of its own for the listening socket: the server closes the one that it was given."""

    async def start(self, inherited: int | None = None) -> Listen:
        """Listen, and return the address (with the real port if port 0 was asked for). Raises OSError.

        `inherited` is a descriptor that an earlier program image of this process handed over, None if there is none.
        """
        await self._runner.setup()
        listener = self._bind() if inherited is None else self._adopt(inherited)
        await self._serve(listener)
        if isinstance(self._listen, UnixListen):
            return self._listen
        host, port = listener.getsockname()[:2]
        return TcpListen(host, port)

    async def _serve(self, listener: socket.socket) -> None:
        self._listener = listener.dup()
        self._server = await asyncio.get_running_loop().create_server(self._connection, sock=listener)

    def pause(self) -> None:
        """Accept nothing more until `resume`: connections wait in the backlog of the socket, which stays open.

        Who listens to events is hung up on, and comes back.
        """
        self._broadcast.end()
        if self._server is not None:
            self._server.close()

    async def resume(self) -> None:
        """Accept connections again. Raises OSError."""
        assert self._listener is not None
        await self._serve(self._listener)

    @property
    def busy(self) -> bool:
        """Whether there are connections, which may still be answered."""
        server = self._runner.server
        return server is not None and bool(server.connections)

    @property
    def descriptor(self) -> int:
        """The descriptor of the listening socket."""
        assert self._listener is not None
        return self._listener.fileno()

    async def close(self) -> None:
        """Stop listening and end the connections."""
        if self._server is not None:
            self._server.close()
        if self._listener is not None:
            self._listener.close()
        self._broadcast.end()
        await self._runner.cleanup()
        if self._named is not None:
            self._named.close()

    def _bind(self) -> socket.socket:
        if isinstance(self._listen, UnixListen):
            self._named = listen_unix(self._listen.path, 0o666)
            return self._named.socket
        family = socket.AF_INET6 if ":" in self._listen.host else socket.AF_INET
        return socket.create_server((self._listen.host, self._listen.port), family=family)

    def _adopt(self, descriptor: int) -> socket.socket:
        """Go on with a socket that listens already; one of another address gives way to a new one."""
        found = socket.socket(fileno=descriptor)
        name = found.getsockname()
        if isinstance(self._listen, UnixListen) and name == self._listen.path:
            self._named = adopt_unix(name, found.detach())
            return self._named.socket
        if isinstance(self._listen, TcpListen) and name[:2] == (self._listen.host, self._listen.port):
            return found
        found.close()
        return self._bind()

    def _connection(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        return server() if len(server.connections) < MOST_CONNECTIONS else _TooMany()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard])
        application.on_response_prepare.append(_add_safe_headers)
        application.router.add_get("/", self._page)
        application.router.add_get("/events", self._broadcast.serve)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/status", self._status)
        application.router.add_get("/status/{name}", self._status_of_one)
        application.router.add_get("/metrics", self._metrics)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return _problem(404, f"there is nothing at {request.path}")

    def _refusal(self, request: web.Request) -> web.Response | None:
        if request.method not in READS:
            return _problem(405, "this endpoint only reads: GET and HEAD", Allow=", ".join(READS))
        hosts = request.headers.getall(hdrs.HOST, [])
        if len(hosts) != 1:
            return _problem(400, "a request must have one Host header")
        if not _is_local(hosts[0], self._listen):
            return _problem(421, "the Host of the request is not a name of this machine")
        if request.headers.get("Sec-Fetch-Site") in FOREIGN and request.headers.get("Sec-Fetch-Mode") != "navigate":
            return _problem(403, "this is not for the pages of others")
        return None

    async def _page(self, _request: web.Request) -> web.Response:
        if self._page_made_at < time.monotonic() - PAGE_S:
            text = render(self._broadcast.snapshot(), self._broadcast.recent_events(), socket.gethostname())
            self._page_text, self._page_made_at = text.encode(errors="replace"), time.monotonic()
        headers = {POLICY_HEADER: POLICY, "Referrer-Policy": "no-referrer"}
        return web.Response(body=self._page_text, content_type="text/html", charset="utf-8", headers=headers)

    async def _healthz(self, _request: web.Request) -> web.Response:
        well, reason = self._health()
        return web.Response(text="ok\n") if well else web.Response(status=503, text=f"{reason}\n")

    async def _status(self, _request: web.Request) -> web.Response:
        return _json(self._document())

    async def _status_of_one(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = [entry for entry in self._document()["instances"] if entry["name"] == name]
        return _json(found[0]) if found else _problem(404, f"no instance '{name}'")

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics_for(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


class _TooMany(asyncio.Protocol):
    """Turns a connection away."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        transport.close()


def _is_local(host: str, listen: Listen) -> bool:
    """Return whether a Host header names this machine's loopback or the address that we listen on, at any port."""
    name = _without_port(host).lower()
    if name in LOCAL_NAMES or (isinstance(listen, TcpListen) and name == listen.host.lower()):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _json(value: Any) -> web.Response:
    return web.json_response(value, dumps=_dumps)


def _dumps(value: Any) -> str:
    return json.dumps(value) + "\n"


def _problem(status: int, detail: str, **headers: str) -> web.Response:
    title = web.Response(status=status).reason
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return web.Response(
        status=status, text=_dumps(body), content_type="application/problem+json", headers=headers or None
    )


async def _add_safe_headers(_request: web.Request, response: web.StreamResponse) -> None:
    policy = response.headers.get(POLICY_HEADER)
    response.headers.update(SAFE_HEADERS | ({} if policy is None else {POLICY_HEADER: policy}))
