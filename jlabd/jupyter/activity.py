"""What goes on in a lab: its own count of kernels and connections, asked for without counting as activity."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jlabd.jupyter.http import CannotAskError, NoAnswerError, get, json_object, json_objects
from jlabd.spec import Listen

OK = 200
NOT_FOUND = 404
"""What a lab without terminals says of them."""
LONGEST_LIST = 1024 * 1024
"""Bytes of a list that are read: thousands of kernels."""
MOST = 1_000_000
"""More kernels or connections than this are not believed."""


class ActivityError(Exception):
    """A lab did not say what goes on in it; the text is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What goes on in one lab."""

    kernels: int
    connections: int
    """Open connections to kernels."""
    last_activity: datetime | None


async def activity(listen: Listen, base_url: str, token: str, timeout_s: float) -> Activity:
    """Return what the lab says of itself. Raises ActivityError, at the latest after `timeout_s`.

    Also for a lab of which no token is known.
    """
    if not token:
        raise ActivityError("there is no token to ask with")
    try:
        status, body = await get(listen, f"{base_url}api/status", timeout_s, {"Authorization": f"token {token}"})
    except (NoAnswerError, CannotAskError) as error:
        raise ActivityError(str(error)) from error
    if status != OK:
        raise ActivityError(f"answered {status} to GET {base_url}api/status")
    try:
        answer = json_object(body)
        return Activity(_count(answer, "kernels"), _count(answer, "connections"), _time(answer.get("last_activity")))
    except ValueError as error:
        raise ActivityError(f"answered GET {base_url}api/status, but not as JupyterLab does") from error


async def activity_mark(listen: Listen, base_url: str, token: str, timeout_s: float) -> str | None:
    """Return what stays the same as long as nothing happens in the lab; None while something goes on.

    That is a connection to a kernel, or a kernel that computes, however silently. Raises ActivityError, also for a lab
    of which no token is known.
    """
    seen = await activity(listen, base_url, token, timeout_s)
    if seen.connections or seen.last_activity is None:
        return None
    if seen.kernels and await _some_kernel_is_busy(listen, base_url, token, timeout_s):
        return None
    terminals = await _models(listen, f"{base_url}api/terminals", token, timeout_s, missing=NOT_FOUND)
    spoke = sorted(f"{terminal.get('name')} {terminal.get('last_activity')}" for terminal in terminals)
    return hashlib.sha256("\n".join([seen.last_activity.isoformat(), *spoke]).encode(errors="replace")).hexdigest()[:16]


async def _some_kernel_is_busy(listen: Listen, base_url: str, token: str, timeout_s: float) -> bool:
    kernels = await _models(listen, f"{base_url}api/kernels", token, timeout_s)
    return any(kernel.get("execution_state") == "busy" for kernel in kernels)


async def _models(
    listen: Listen, path: str, token: str, timeout_s: float, *, missing: int | None = None
) -> list[dict[str, Any]]:
    """Return the list of objects at `path`; none if the answer has the status `missing`. Raises ActivityError."""
    query = f"{path}?no_track_activity=1"
    try:
        status, body = await get(listen, query, timeout_s, {"Authorization": f"token {token}"}, LONGEST_LIST)
    except (NoAnswerError, CannotAskError) as error:
        raise ActivityError(str(error)) from error
    if status == missing:
        return []
    if status != OK:
        raise ActivityError(f"answered {status} to GET {path}")
    try:
        return json_objects(body)
    except ValueError as error:
        raise ActivityError(f"answered GET {path}, but not as JupyterLab does") from error


def _count(answer: dict[str, Any], key: str) -> int:
    """Return the number at `key`. Raises ValueError."""
    number = answer.get(key)
    if not isinstance(number, int) or not 0 <= number <= MOST:
        raise ValueError(key)
    return number


def _time(text: Any) -> datetime | None:
    """Return the time that the lab names, if it does. Raises ValueError."""
    if not text:
        return None
    time = datetime.fromisoformat(str(text))
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time before the first or after the last year") from error
