"""The status page: the status document for people. Works without its script as a table of that moment."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jlabd.look import Page
from jlabd.status.history import SPACING_S, WINDOW_S

MOODS = {
    "ready": "good",
    "starting": "wait",
    "stopping": "wait",
    "unhealthy": "fault",
    "backoff": "fault",
    "failed": "fault",
    "idle": "rest",
    "stopped": "rest",
}
"""State → what a person feels about it; the word for the state itself is always there too."""

GRAPH_WIDTH, GRAPH_HEIGHT = 120, 28
LEAST_CPU = 50.0
"""Percent at the top of a graph at least, so that the noise of an idle lab is not blown up."""
LEAST_MEMORY = 64 * 2**20

_UNITS = ("B", "K", "M", "G", "T")
_PAGE = Page("jlabd.status", "page")

POLICY = _PAGE.policy
"""The Content-Security-Policy of the page."""


@dataclass(frozen=True, slots=True)
class Row:
    """An instance as the page shows it: texts, and the points of its graphs."""

    entry: dict[str, Any]
    mood: str
    since: str
    href: str
    cpu: str
    memory: str
    cpu_points: str
    memory_points: str


def render(snapshot: dict[str, Any], events: Sequence[dict[str, Any]], host: str) -> str:
    """Return the page of a snapshot (see `stream.Broadcast`) and the last events of the journal, the oldest first."""
    document, now = snapshot["document"], datetime.fromisoformat(snapshot["now"])
    rows = [row(entry, snapshot["history"][entry["name"]], now) for entry in document["instances"]]
    facts: dict[str, Any] = {
        "moods": MOODS,
        "window": WINDOW_S,
        "spacing": SPACING_S,
        "cpu": LEAST_CPU,
        "memory": LEAST_MEMORY,
    }
    facts |= {"width": GRAPH_WIDTH, "height": GRAPH_HEIGHT}
    return _PAGE.render(
        document=document,
        rows=rows,
        counts=sorted(Counter(entry["state"] for entry in document["instances"]).items(), key=_order),
        moods=MOODS,
        troubles=troubles(document),
        events=[event | {"at": event["time"][11:19]} for event in reversed(events)],
        host=host,
        now=f"{now:%Y-%m-%d %H:%M:%S} UTC",
        width=GRAPH_WIDTH,
        height=GRAPH_HEIGHT,
        minutes=int(WINDOW_S / 60),
        area=area,
        facts=json.dumps(facts),
    )


def _order(counted: tuple[str, int]) -> int:
    return list(MOODS).index(counted[0])


def troubles(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with the daemon itself, one sentence each."""
    parts = (("The configuration on disk is not in use", "config"), ("nginx is not in line", "nginx"))
    return [f"{what}: {document[key]['error']}" for what, key in parts if document[key]["error"]]


def row(entry: dict[str, Any], history: Sequence[tuple[float, float, int]], now: datetime) -> Row:
    """Return how an instance is shown."""
    cpu, memory = entry["cpu_percent"], entry["memory_bytes"]
    times = [ago for ago, _, _ in history]
    return Row(
        entry=entry,
        mood=MOODS[entry["state"]],
        since=f"for {duration((now - datetime.fromisoformat(entry['since'])).total_seconds())}",
        href=entry["url"] if entry["url"].startswith(("http://", "https://")) else "",
        cpu="" if cpu is None else f"{cpu:.0f} %",
        memory="" if memory is None else size(memory),
        cpu_points=points(times, [cpu for _, cpu, _ in history], LEAST_CPU),
        memory_points=points(times, [memory for _, _, memory in history], LEAST_MEMORY),
    )


def points(times: Sequence[float], values: Sequence[float], least: float) -> str:
    """Return the points of a polyline: now is at the right, zero at the bottom; `times` are seconds ago."""
    top = max([least, *values])
    return " ".join(
        f"{GRAPH_WIDTH * (1 - ago / WINDOW_S):.1f},{GRAPH_HEIGHT - 1 - (GRAPH_HEIGHT - 2) * value / top:.1f}"
        for ago, value in zip(times, values, strict=True)
    )


def area(line: str) -> str:
    """Return the points of the polygon below the polyline with the points `line`."""
    if not line:
        return ""
    places = [point.partition(",")[0] for point in line.split()]
    return f"{places[0]},{GRAPH_HEIGHT} {line} {places[-1]},{GRAPH_HEIGHT}"


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: "12 s", "5 min", "3 h 12 min", "4 d 3 h"; from a week on in days."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole // 60 % 60} min"
    return f"{whole // 86400} d {whole // 3600 % 24} h" if whole < 7 * 86400 else f"{whole // 86400} d"


def size(count: int) -> str:
    """Return a number of bytes as "83 M" or "1.2 G"."""
    amount, unit = float(count), 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit >= 3 and amount < 100 else f"{amount:.0f} {_UNITS[unit]}"
