"""The routes that start, stop and restart instances, and wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from jlabd.control.answers import Refusal, body_of, boolean, check_allowed, check_known, line, stream
from jlabd.control.authorize import Caller, may
from jlabd.control.supervisor import EventStream, Settled, Supervisor

LONGEST_WAIT_S = 7 * 86400.0

GOAL = {"start": "ready", "stop": "stopped", "restart": "ready"}

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Wish:
    """A request as it was understood and allowed."""

    verb: str
    names: tuple[str, ...]
    wait: bool
    timeout_s: float | None


class Lifecycle:
    """Answers /start, /stop and /restart."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def start(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Start instances."""
        return await self._grant("start", request, caller)

    async def stop(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Stop instances; one that is stopping already is killed."""
        return await self._grant("stop", request, caller)

    async def restart(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Restart instances."""
        return await self._grant("restart", request, caller)

    async def _grant(self, verb: str, request: web.Request, caller: Caller) -> web.StreamResponse:
        wish = self._understand(verb, await body_of(request), caller)
        _log.info("Asked over the control socket", verb=verb, names=wish.names, by=caller.user, pid=caller.pid)
        with self._supervisor.journal.subscribe() as events:
            for name in wish.names:
                self._supervisor.request(verb, name, caller.user)
            response = await stream(request, "application/x-ndjson")
            done = await self._wait(wish, events, response) if wish.wait else self._outlook(wish)
            await response.write(line({"done": done}))
        return response

    def _understand(self, verb: str, body: dict[str, Any], caller: Caller) -> _Wish:
        names = self._all_of(verb, caller) if boolean(body, "all", default=False) else _names(body)
        check_known(self._supervisor, names)
        check_allowed(self._supervisor, caller, verb, names)
        return _Wish(verb, names, boolean(body, "wait", default=True), _timeout(body))

    def _all_of(self, verb: str, caller: Caller) -> tuple[str, ...]:
        """Return all instances that `caller` may do this to."""
        names = self._supervisor.names()
        mine = tuple(name for name in names if may(caller, verb, self._supervisor.owner(name)))
        if names and not mine:
            raise Refusal(403, f"no instance is {caller.user}'s to {verb}")
        return mine

    async def _wait(self, wish: _Wish, events: EventStream, response: web.StreamResponse) -> list[dict[str, Any]]:
        with _tasks() as tasks:
            progress = asyncio.create_task(_tell(events, wish.names, response))
            settled = {name: asyncio.create_task(self._supervisor.settle(wish.verb, name)) for name in wish.names}
            tasks += [progress, *settled.values()]
            if settled:
                await asyncio.wait(settled.values(), timeout=wish.timeout_s)
            # The verdicts are made before the last progress is told: a reader that stalls cannot change them.
            results = {name: self._result(wish, name, task) for name, task in settled.items()}
            events.close()
            await progress
        return [_entry(name, result) for name, result in results.items()]

    def _result(self, wish: _Wish, name: str, task: asyncio.Task[Settled]) -> Settled:
        if task.done():
            return task.result()
        now = self._now(name)
        assert wish.timeout_s is not None
        reason = f"not {GOAL[wish.verb]} within {wish.timeout_s:g} s, it is {now.state}: {now.reason}"
        return Settled(ok=False, state=now.state, reason=reason)

    def _outlook(self, wish: _Wish) -> list[dict[str, Any]]:
        return [_entry(name, self._now(name)) for name in wish.names]

    def _now(self, name: str) -> Settled:
        for instance in self._supervisor.document()["instances"]:
            if instance["name"] == name:
                return Settled(ok=True, state=instance["state"], reason=instance["reason"])
        return Settled(ok=False, state="stopped", reason="it was removed from the configuration")


async def _tell(events: EventStream, names: tuple[str, ...], response: web.StreamResponse) -> None:
    """Write a line for each change of one of the instances, until the events end."""
    async for event in events:
        if event["instance"] in names and event["state"] is not None:
            await response.write(
                line({"progress": event["instance"], "state": event["state"], "reason": event["reason"]})
            )


@contextmanager
def _tasks() -> Iterator[list[asyncio.Task[Any]]]:
    """Give a list for tasks of which none outlives the block."""
    tasks: list[asyncio.Task[Any]] = []
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()


def _entry(name: str, settled: Settled) -> dict[str, Any]:
    return {"name": name, "ok": settled.ok, "state": settled.state, "reason": settled.reason}


def _names(body: dict[str, Any]) -> tuple[str, ...]:
    names = body.get("names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise Refusal(400, '"names" must be a list of names')
    return tuple(dict.fromkeys(names))


def _timeout(body: dict[str, Any]) -> float | None:
    value = body.get("timeout")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_WAIT_S:
        raise Refusal(400, '"timeout" must be a number of seconds, or null')
    return float(value)
