"""Calls that may hang for as long as a directory service or a file server likes.

Each runs in a thread of its own: those that hang take no place from others, and the daemon can end without them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

Result = TypeVar("Result")

_under_way: dict[tuple[Hashable, asyncio.AbstractEventLoop], asyncio.Future[Any]] = {}


async def in_thread(call: Callable[[], Result]) -> Result:
    """Return what `call` returns, or raise what it raises. Cancelled, it only stops waiting. Raises OSError."""
    return await _begin(call)


async def in_thread_once(key: Hashable, call: Callable[[], Result]) -> Result:
    """Do as `in_thread` does; but while a call with the same `key` is under way, share its outcome instead."""
    place = key, asyncio.get_running_loop()
    outcome = _under_way.get(place)
    if outcome is None:
        outcome = _under_way[place] = _begin(call)
        outcome.add_done_callback(lambda done: _forget(place, done))
    return cast("Result", await asyncio.shield(outcome))


def _forget(place: tuple[Hashable, asyncio.AbstractEventLoop], outcome: asyncio.Future[Any]) -> None:
    del _under_way[place]
    if not outcome.cancelled():
        outcome.exception()  # nobody may be left who wants to know


def _begin(call: Callable[[], Result]) -> asyncio.Future[Result]:
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Result] = loop.create_future()

    def run() -> None:
        try:
            report = _Report(outcome, result=call())
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is raised where the call is awaited)
            report = _Report(outcome, error=error)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(report.deliver)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as error:  # Python's word for “the system gives us no thread”
        raise OSError(errno.EAGAIN, "the system refuses another thread") from error
    return outcome


class _Report:
    """How a call ended, on its way to those who wait for it."""

    def __init__(
        self, outcome: asyncio.Future[Any], *, result: object = None, error: BaseException | None = None
    ) -> None:
        self._outcome = outcome
        self._result = result
        self._error = error

    def deliver(self) -> None:
        """Tell them, if they have not gone away."""
        if self._outcome.done():
            return
        if self._error is None:
            self._outcome.set_result(self._result)
        else:
            self._outcome.set_exception(self._error)
