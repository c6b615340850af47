"""Who answers on an instance's socket while its server does not: the daemon, with the reason.

Requests that nobody has accepted when a stand-in stops wait in the backlog for the server; those that were accepted and
held are passed on to it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from jlabd.front import answers, visit
from jlabd.front.door import Door
from jlabd.front.passing import pass_on, swallow
from jlabd.front.request import Request, for_one_answer
from jlabd.front.standing import Standing
from jlabd.front.visit import Turn

__all__ = ["StandIns", "Standing"]

REQUEST_TIMEOUT_S = 10.0
"""For the head of a request, and again for its answer; a client that is slower is cut off."""

CONNECTIONS_EACH = 64
"""Connections of one instance that are answered or held at the same time; more of them wait in the backlog."""

CONNECTIONS_ALL = 512
"""The same for all instances: the daemon needs its descriptors for other things."""

HELD_ALL = 384
"""With so many connections no more are held, so that who comes to an instance at rest still gets an answer."""

PASSED_ON_ALL = 1024
"""Connections of all instances that are passed on at the same time; each takes two descriptors."""

Describe = Callable[[], Standing]
Visited = Callable[[], None]


@dataclass(slots=True)
class _Crowd:
    """The connections of all instances."""

    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    lasting: set[asyncio.Task[None]] = field(default_factory=set)
    """Those that are used for something else than HTTP by now: they may last for days."""
    received: int = 0
    """How many are answered or held."""
    passed_on: int = 0


class StandIns:
    """The stand-ins of all instances, in the running event loop. One that waits costs an entry in epoll."""

    def __init__(self) -> None:
        self._serving: dict[str, _StandIn] = {}
        self._crowd = _Crowd()

    def start(
        self,
        name: str,
        sock: socket.socket,
        describe: Describe,
        *,
        hold: bool = False,
        visited: Visited | None = None,
    ) -> None:
        """Answer on `sock` for the instance `name`, in this way from now on, whatever was begun for it before.

        `sock` is a listening socket that stays open until `stop`. `describe` is called for each request, and `visited`
        when somebody opens a page of the instance, before the answer is made.

        Without `hold` everybody is answered, those too who were held until now. With `hold` the server is on its way
        and may accept on `sock` as well: people get the page, and every other request is held until `stop`.
        """
        stand_in = self._serving.get(name)
        if stand_in is None:
            stand_in = self._serving[name] = _StandIn(name, self._crowd)
        stand_in.begin(sock, describe, hold=hold, visited=visited)

    def stop(self, name: str) -> None:
        """Accept nothing more for `name`: the server does. Who is held is passed on to it, the others are answered."""
        stand_in = self._serving.pop(name, None)
        if stand_in is not None:
            stand_in.end(Turn.READY if stand_in.hold else Turn.REST)

    async def drain(self, timeout_s: float) -> None:
        """Accept nothing more for anybody, and give the answers that are under way so much time to get out.

        Who is held is told to come again at once.
        """
        self._end_all()
        if under_way := self._crowd.tasks - self._crowd.lasting:
            await asyncio.wait(under_way, timeout=timeout_s)

    async def close(self) -> None:
        """Stop all, and cut off the connections that are left."""
        self._end_all()
        tasks = tuple(self._crowd.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end_all(self) -> None:
        while self._serving:
            self._serving.popitem()[1].end(Turn.CLOSING)


class _StandIn:
    """Receives the visitors of one instance."""

    def __init__(self, name: str, crowd: _Crowd) -> None:
        self.name = name
        self.hold = False
        self._loop = asyncio.get_running_loop()
        self.turn: asyncio.Future[Turn] = self._loop.create_future()
        self._crowd = crowd
        self._received = 0
        self._door = Door(name, self._receive, self._is_full)
        self._socket: socket.socket
        self._describe: Describe
        self._visited: Visited | None = None

    def begin(self, sock: socket.socket, describe: Describe, *, hold: bool, visited: Visited | None) -> None:
        """Answer on `sock` from now on (see StandIns.start)."""
        self._socket, self._describe, self._visited, self.hold = sock, describe, visited, hold
        standing = self.standing()
        if not hold:
            self._decide(Turn.REST)
            self.turn = self._loop.create_future()
        self._door.open(sock, shared=hold, after_s=visit.patience(standing) if hold else 0)

    def end(self, turn: Turn) -> None:
        """Leave the socket alone, and tell those who are held. Who is still to be answered gets the last standing."""
        last = self._last
        self._door.close()
        self._describe, self._visited = lambda: last, None
        self._decide(turn)

    # visit.Host

    def standing(self) -> Standing:
        """Return how the instance stands."""
        self._last = self._describe()
        return self._last

    def visited(self) -> None:
        """Tell who wants to know that somebody opened a page."""
        if self._visited is not None:
            self._visited()

    # The connections

    def _decide(self, turn: Turn) -> None:
        if not self.turn.done():
            self.turn.set_result(turn)

    def _is_full(self) -> bool:
        everywhere = HELD_ALL if self.hold else CONNECTIONS_ALL
        return self._received >= CONNECTIONS_EACH or self._crowd.received >= everywhere

    def _receive(self, connection: socket.socket) -> None:
        task = self._loop.create_task(self._serve(connection), name=f"{self.name} stand-in")
        self._received += 1
        self._crowd.received += 1
        self._crowd.tasks.add(task)
        task.add_done_callback(self._crowd.tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        """Have one request answered, by us or by the server, and close the connection."""
        with connection, suppress(OSError):  # the client went away, or is too slow to be served
            try:
                waiting = await self._answer(connection)
            finally:
                self._received -= 1
                self._crowd.received -= 1
            if waiting is not None:
                await self._pass_on(connection, *waiting)

    async def _answer(self, connection: socket.socket) -> tuple[Request, bytes] | None:
        """Answer one request. Returns it, and what was received, if the server is to answer it. Raises OSError."""
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            received = await visit.read_head(connection)
        if not received:
            return None
        request = visit.understand(received)
        answer = request if isinstance(request, bytes) else await visit.receive(self, connection, request)
        if isinstance(request, Request) and answer is None:
            return request, received
        if answer:
            await _send(connection, answer)
        return None

    async def _pass_on(self, connection: socket.socket, request: Request, received: bytes) -> None:
        """Let the server answer. Raises OSError."""
        if self._crowd.passed_on >= PASSED_ON_ALL:
            return await _send(connection, answers.problem(self.name, self.standing(), retry_s=1))
        if request.upgrades:
            self._mark_as_lasting()
        else:
            received = for_one_answer(received)
        self._crowd.passed_on += 1
        try:
            await pass_on(connection, received, self._socket)
        except OSError:
            await _send(connection, answers.at_rest(self.name, self.standing(), request))
        finally:
            self._crowd.passed_on -= 1

    def _mark_as_lasting(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._crowd.lasting.add(task)
        task.add_done_callback(self._crowd.lasting.discard)


async def _send(connection: socket.socket, answer: bytes) -> None:
    """Send an answer and see it off. Raises OSError."""
    async with asyncio.timeout(REQUEST_TIMEOUT_S):
        await asyncio.get_running_loop().sock_sendall(connection, answer)
        connection.shutdown(socket.SHUT_WR)
        await swallow(connection)
