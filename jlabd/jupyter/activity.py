"""What goes on in a lab: its own count of kernels and connections, asked for without counting as activity."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from jlabd.jupyter.http import NoAnswerError, get
from jlabd.spec import Listen

OK = 200


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
        return _activity(json.loads(body))
    except (ValueError, TypeError, KeyError) as error:
        raise ActivityError(f"answered GET {base_url}api/status, but not as JupyterLab does") from error


def _activity(answer: dict[str, str | int]) -> Activity:
    """Return the answer's numbers. Raises ValueError, TypeError or KeyError if it is another program's."""
    last = answer.get("last_activity")
    return Activity(
        kernels=int(answer["kernels"]),
        connections=int(answer["connections"]),
        last_activity=datetime.fromisoformat(str(last)) if last else None,
    )
