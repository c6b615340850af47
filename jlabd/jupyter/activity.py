"""What goes on in a lab: its own count of kernels and connections, asked for without counting as activity."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jlabd.jupyter.http import NoAnswerError, get, json_object
from jlabd.spec import Listen

OK = 200
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
    """Return what the lab says of itself. Raises ActivityError, at the latest after `timeout_s`."""
    try:
        status, body = await get(listen, f"{base_url}api/status", timeout_s, {"Authorization": f"token {token}"})
    except NoAnswerError as error:
        raise ActivityError(str(error)) from error
    if status != OK:
        raise ActivityError(f"answered {status} to GET {base_url}api/status")
    try:
        answer = json_object(body)
        return Activity(_count(answer, "kernels"), _count(answer, "connections"), _time(answer.get("last_activity")))
    except ValueError as error:
        raise ActivityError(f"answered GET {base_url}api/status, but not as JupyterLab does") from error


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
