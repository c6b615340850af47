"""The routes of the control socket that look, and those that act on one instance or on the daemon."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

import structlog
from aiohttp import web

from jlabd.control.answers import (
    Refusal,
    answer,
    body_of,
    boolean,
    check_administrator,
    check_allowed,
    check_known,
    line,
    lines_wanted,
    stream,
    text,
)
from jlabd.control.authorize import Caller, may, redact
from jlabd.control.supervisor import Supervisor

DEFAULT_LINES = 50
MOST_EVENTS = 100_000

Result = TypeVar("Result")

_PASSWORD_HASH = re.compile(r"[a-z0-9_]+:[\x21-\x7e]{8,1000}")
_log = structlog.get_logger()


class Requests:
    """Answers all routes that need no waiting for an instance."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._unfinished: set[asyncio.Task[Any]] = set()

    async def status(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Answer with the status document, of all or the named instances."""
        names = request.query.getall("name", [])
        check_known(self._supervisor, names)
        document = redact(self._supervisor.document(), caller)
        if names:
            document = document | {"instances": [i for i in document["instances"] if i["name"] in names]}
        return answer(document)

    async def signal(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Send a signal to the server process of an instance."""
        body = await body_of(request)
        name, signum = text(body, "name"), _signal(body)
        self._check(caller, "signal", name)
        _log.info("Asked over the control socket", verb="signal", names=(name,), signal=signum, by=caller.user)
        self._supervisor.signal(name, signum, caller.user)
        return answer({"name": name, "signal": signum})

    async def reload(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Apply the edited configuration, or say what would be done."""
        check_administrator(caller, "reload the configuration")
        dry_run = boolean(await body_of(request), "dry_run", default=False)
        _log.info("Asked over the control socket", verb="reload", dry_run=dry_run, by=caller.user, pid=caller.pid)
        return answer(await self._to_the_end(self._supervisor.reload(dry_run=dry_run, by=caller.user)))

    async def reexec(self, _request: web.Request, caller: Caller) -> web.StreamResponse:
        """Have the daemon replaced by the code on disk."""
        check_administrator(caller, "replace the daemon")
        _log.info("Asked over the control socket", verb="reexec", by=caller.user, pid=caller.pid)
        return answer({"message": await self._to_the_end(self._supervisor.reexec(caller.user))})

    async def logs(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Answer with the end of an instance's log, and go on with what is added if that is wanted."""
        name, lines = request.match_info["name"], lines_wanted(request, DEFAULT_LINES)
        self._check(caller, "logs", name)
        if "follow" not in request.query:
            tail = self._supervisor.log_tail(name, lines)
            return web.Response(body=tail, content_type="application/octet-stream")
        response = await stream(request, "application/octet-stream")
        async with aclosing(self._supervisor.log_follow(name, lines)) as pieces:
            async for piece in pieces:
                await response.write(piece)
        return response

    async def events(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Answer with the last events that `caller` may see, and go on with the next ones if that is wanted."""
        lines = lines_wanted(request, DEFAULT_LINES)
        with self._supervisor.journal.subscribe() as coming:
            seen = [event for event in self._supervisor.journal.recent(MOST_EVENTS) if self._sees(caller, event)]
            response = await stream(request, "application/x-ndjson")
            await response.write(b"".join(line(event) for event in seen[max(0, len(seen) - lines) :]))
            if "follow" in request.query:
                async for event in coming:
                    if self._sees(caller, event):
                        await response.write(line(event))
        return response

    async def url(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Answer with the address of an instance, with `token` as a link that logs in."""
        name = request.match_info["name"]
        self._check(caller, "url", name)
        return answer({"url": self._supervisor.url(name, token="token" in request.query)})

    async def passwd(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Put a new password's hash in place."""
        body = await body_of(request)
        name, password_hash = text(body, "name"), text(body, "password_hash")
        self._check(caller, "passwd", name)
        if not _PASSWORD_HASH.fullmatch(password_hash):
            raise Refusal(400, '"password_hash" is no hash that JupyterLab knows ("argon2:…")')
        _log.info("Asked over the control socket", verb="passwd", names=(name,), by=caller.user, pid=caller.pid)
        message = await self._to_the_end(self._supervisor.set_password(name, password_hash, caller.user))
        return answer({"message": message})

    def _check(self, caller: Caller, verb: str, name: str) -> None:
        check_known(self._supervisor, [name])
        check_allowed(self._supervisor, caller, verb, [name])

    def _sees(self, caller: Caller, event: dict[str, Any]) -> bool:
        """Return whether an event is the caller's to see: of her own instances, or of lost ones."""
        name = event["instance"]
        owner = None if name is None else self._supervisor.owner(name)
        return event["kind"] == "lost" or may(caller, "events", owner)

    async def _to_the_end(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do `work` even if the client goes away in the middle of it."""
        task = asyncio.create_task(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)


def _signal(body: dict[str, Any]) -> int:
    value = body.get("signal")
    if isinstance(value, bool) or not isinstance(value, int) or value not in signal.valid_signals():
        raise Refusal(400, '"signal" must be the number of a signal')
    return value
