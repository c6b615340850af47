"""The control socket: HTTP over a unix socket that everybody may open, because the daemon decides by who it is.

The route table, literally. "own" stands for the instance's own user; administrators may do everything.

| route                          | who            | asked with                   | answered with          |
|--------------------------------|----------------|------------------------------|------------------------|
| GET /status[?name=N…]          | everybody      |                              | the status document    |
| POST /start, /stop, /restart   | own            | "names" or "all", see below  | lines, see below       |
| POST /signal                   | administrators | {"name", "signal": number}   | {"name", "signal"}     |
| POST /reload                   | administrators | {"dry_run" (false)}          | the plan               |
| POST /reexec                   | administrators |                              | {"message"}            |
| GET /logs/N[?lines=M&follow=1] | own            |                              | the log's bytes        |
| GET /events[?lines=M&follow=1] | own            |                              | one event a line       |
| GET /url/N[?token=1]           | own            |                              | {"url"}                |
| POST /passwd                   | own            | {"name", "password_hash"}    | {"message"}            |

/start, /stop and /restart take {"names": [N…]} or {"all": true}, "wait" (true) and "timeout" (seconds, or null). They
answer with a line {"progress": N, "state", "reason"} whenever one of the instances changes, and a last line
{"done": [{"name", "ok", "state", "reason"}…]}. With "wait" false the last line comes at once. What has not ended when
"timeout" has passed is not "ok". A client that goes away stops the waiting, not the work.

Errors are application/problem+json: 400 not understood, 403 not allowed, 404 no such instance or route, 408 too slow,
409 the daemon cannot do it now, 413 too large. One request a connection.

What hostile or broken clients do must not matter: connections are limited for each account, a client that asks nothing
is hung up on, bodies are small, and a reader that stalls holds nothing but its own connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from jlabd.control.answers import Refusal, problem
from jlabd.control.authorize import Caller
from jlabd.control.callers import Callers, Peer, peer_of
from jlabd.control.lifecycle import Lifecycle
from jlabd.control.requests import Requests
from jlabd.control.supervisor import RefusedError, Supervisor
from jlabd.unixsocket import UnixListener, adopt_unix, listen_unix

Answer = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]

LARGEST_BODY = 64 * 1024
IDLE_S = 10.0
"""A connection that has not asked anything by then is closed."""
MOST_OF_ONE_ACCOUNT = 64
"""Connections of one account; root and the daemon's own account have four times as many."""
MOST_OF_ORDINARY_ACCOUNTS = 512
NO_DESCRIPTORS_PAUSE_S = 0.5
TURNED_AWAY = (
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nConnection: close\r\n\r\n"
    b'{"title": "Service Unavailable", "status": 503, "detail": "too many connections to jlabd are open"}\n'
)

_log = structlog.get_logger()


class ControlServer:
    """The listening control socket.

    The caller holds the lock of the runtime folder: what lies at `path` is ours to replace. `admin_group` returns the
    name of the group whose members control everything; a reload may change it.
    """

    def __init__(self, path: str, supervisor: Supervisor, admin_group: Callable[[], str]) -> None:
        self._path = path
        self._callers = Callers(admin_group)
        self._lifecycle = Lifecycle(supervisor)
        self._requests = Requests(supervisor)
        self._guests = _Guests(self._callers.own_uid)
        self._answering: set[asyncio.Task[None]] = set()
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=IDLE_S,
            shutdown_timeout=1,
            handler_cancellation=True,
        )
        self._listener: UnixListener | None = None
        self._accepting: asyncio.Task[None] | None = None

    async def start(self, inherited: int | None = None) -> None:
        """Listen, on the descriptor that an earlier program image of this process handed over if there is one.

        Raises OSError.
        """
        await self._runner.setup()
        self._listener = listen_unix(self._path, 0o666) if inherited is None else adopt_unix(self._path, inherited)
        self.resume()

    def resume(self) -> None:
        """Accept connections (again, after `pause`)."""
        assert self._listener is not None
        self._accepting = asyncio.create_task(self._accept_all(self._listener.socket))

    def pause(self) -> None:
        """Accept nothing more until `resume`: connections wait in the backlog."""
        if self._accepting is not None:
            self._accepting.cancel()

    @property
    def busy(self) -> bool:
        """Whether there are connections, which may still be answered."""
        server = self._runner.server
        return server is not None and bool(server.connections)

    @property
    def descriptor(self) -> int:
        """The descriptor of the listening socket."""
        assert self._listener is not None
        return self._listener.socket.fileno()

    async def close(self) -> None:
        """Stop listening, end the connections, and remove the socket if it is still ours."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        if self._listener is not None:
            self._listener.close()
        for task in self._answering:
            task.cancel()
        await self._runner.cleanup()
        self._guests.turn_out()

    # Connections

    async def _accept_all(self, listener: socket.socket) -> None:
        while True:
            try:
                # Who has been accepted is received also when this is cancelled meanwhile.
                await asyncio.shield(self._receive(await _accept(listener)))
            except OSError as error:
                _log.warning("The control socket takes no connection for a moment", error=str(error))
                await asyncio.sleep(NO_DESCRIPTORS_PAUSE_S)

    async def _receive(self, connection: socket.socket) -> None:
        peer = peer_of(connection)
        if not self._guests.has_room_for(peer):
            _turn_away(connection)
            return
        server = self._runner.server
        assert server is not None
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(server, connection)
        self._guests.add(peer, connection, transport)

    # Requests

    def _application(self) -> web.Application:
        routes: tuple[tuple[str, str, Answer], ...] = (
            ("GET", "/status", self._requests.status),
            ("POST", "/start", self._lifecycle.start),
            ("POST", "/stop", self._lifecycle.stop),
            ("POST", "/restart", self._lifecycle.restart),
            ("POST", "/signal", self._requests.signal),
            ("POST", "/reload", self._requests.reload),
            ("POST", "/reexec", self._requests.reexec),
            ("GET", "/logs/{name}", self._requests.logs),
            ("GET", "/events", self._requests.events),
            ("GET", "/url/{name}", self._requests.url),
            ("POST", "/passwd", self._requests.passwd),
        )
        application = web.Application(middlewares=[_errors], client_max_size=LARGEST_BODY)
        application.on_response_prepare.append(_one_request_a_connection)
        for method, path, answer in routes:
            application.router.add_route(method, path, self._with_caller(answer))
        return application

    def _with_caller(self, answer: Answer) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            task = asyncio.current_task()
            assert task is not None
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return await answer(request, await self._caller(request))

        return handle

    async def _caller(self, request: web.Request) -> Caller:
        connection = None if request.transport is None else request.transport.get_extra_info("socket")
        if connection is None:
            raise ConnectionResetError("the client went away")
        try:
            return await self._callers.identify(peer_of(connection))
        except TimeoutError:
            raise Refusal(503, "the system does not say who you are; is its directory service down?") from None


async def _accept(listener: socket.socket) -> socket.socket:
    """Do what the loop's own sock_accept does, which loses who comes in the moment when it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            somebody_came = asyncio.Event()
            loop.add_reader(listener, somebody_came.set)
            try:
                await somebody_came.wait()
            finally:
                loop.remove_reader(listener)
        else:
            connection.setblocking(False)
            return connection


class _Guests:
    """The open connections, counted by account."""

    def __init__(self, own_uid: int) -> None:
        self._trusted = {0, own_uid}
        self._guests: list[tuple[Peer, socket.socket, asyncio.Transport]] = []

    def has_room_for(self, peer: Peer) -> bool:
        """Return whether one more connection of `peer`'s account is welcome."""
        self._guests = [guest for guest in self._guests if guest[1].fileno() != -1]
        same = sum(guest.uid == peer.uid for guest, _, _ in self._guests)
        if peer.uid in self._trusted:
            return same < 4 * MOST_OF_ONE_ACCOUNT
        ordinary = sum(guest.uid not in self._trusted for guest, _, _ in self._guests)
        return same < MOST_OF_ONE_ACCOUNT and ordinary < MOST_OF_ORDINARY_ACCOUNTS

    def add(self, peer: Peer, connection: socket.socket, transport: asyncio.Transport) -> None:
        """Count a connection until its descriptor is closed, which a client that does not read can delay."""
        self._guests.append((peer, connection, transport))

    def turn_out(self) -> None:
        """End all connections, read or not."""
        for _, connection, transport in self._guests:
            if connection.fileno() != -1:
                transport.abort()


def _turn_away(connection: socket.socket) -> None:
    with connection:
        try:
            connection.send(TURNED_AWAY, socket.MSG_DONTWAIT)
        except OSError:
            return


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return problem(refusal.status, str(refusal))
    except RefusedError as refused:
        return problem(409, str(refused))
    except web.HTTPNotFound:
        return problem(404, f"there is nothing at {request.path}")
    except web.HTTPMethodNotAllowed as error:
        return problem(
            405, f"{request.method} is not for {request.path}", Allow=", ".join(sorted(error.allowed_methods))
        )
    except web.HTTPRequestEntityTooLarge:
        return problem(413, f"a request may have {LARGEST_BODY} bytes at most")


async def _one_request_a_connection(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "jlabd"
    response.headers["Cache-Control"] = "no-store"
    response.force_close()
