"""The table of `jlabctl status`. Pure: from the status document to text."""

from __future__ import annotations

from datetime import datetime

from jlabd.ctl.text import duration, pad, safe, shorten, size, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

GAP = 2
SHORTEST_REASON = 24
SHORTEST_URL = 16

_GREEN, _YELLOW, _RED, _FAINT = "32", "33", "31", "2"
_COLOURS = {
    "ready": _GREEN,
    "starting": _YELLOW,
    "stopping": _YELLOW,
    "unhealthy": _YELLOW,
    "backoff": _RED,
    "failed": _RED,
    "stopped": _FAINT,
    "idle": _FAINT,
}
_TO_THE_RIGHT = ("pid", "kernels", "cpu", "memory", "restarts")
_LEAST_WANTED = ("user", "restarts", "kernels", "cpu", "memory", "pid", "url", "reason", "since")
"""The columns that a narrow terminal goes without, in this order."""

Row = dict[str, str]


def table(document: dict[str, Any], now: datetime, columns: int | None, *, colour: bool) -> str:
    """Return the table of the document's instances, in at most `columns` columns (None: as wide as it gets)."""
    rows = [_row(instance, now) for instance in document["instances"]]
    if not rows:
        return "no instances\n"
    widths = {key: max(width(row[key]) for row in [_head(), *rows]) for key in rows[0]}
    if columns is not None:
        _fit(widths, columns)
    lines = [_line(_head(), widths, colour=False), *(_line(row, widths, colour=colour) for row in rows)]
    return "".join(f"{line}\n" for line in lines)


def remarks(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with the daemon itself, one sentence each."""
    parts = (("the configuration on disk is not in use", "config"), ("nginx", "nginx"))
    return [f"{what}: {safe(document[key]['error'])}" for what, key in parts if document[key]["error"]]


def _head() -> Row:
    return {key: key.upper() for key in _CELLS}


def _row(instance: dict[str, Any], now: datetime) -> Row:
    return {key: safe(cell(instance, now)) for key, cell in _CELLS.items()}


def _plain(key: str) -> Callable[[dict[str, Any], datetime], str]:
    return lambda instance, _now: _dash(instance[key])


def _dash(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)


def _since(instance: dict[str, Any], now: datetime) -> str:
    since = instance["since"]
    return "-" if since is None else duration((now - datetime.fromisoformat(since)).total_seconds())


def _cpu(instance: dict[str, Any], _now: datetime) -> str:
    percent = instance["cpu_percent"]
    return "-" if percent is None else f"{percent:.0f}%" if percent >= 10 else f"{percent:.1f}%"


def _memory(instance: dict[str, Any], _now: datetime) -> str:
    count = instance["memory_bytes"]
    return "-" if count is None else size(count)


def _reason(instance: dict[str, Any], _now: datetime) -> str:
    """Return the reason, and of a lab that runs and could not be warm also why."""
    why_cold = instance.get("launcher_reason")
    if not why_cold or why_cold == "warm = false" or instance["pid"] is None:
        return _dash(instance["reason"])
    return f"{instance['reason']} (cold: {why_cold})"


_CELLS: dict[str, Callable[[dict[str, Any], datetime], str]] = {
    "name": _plain("name"),
    "state": _plain("state"),
    "since": _since,
    "pid": _plain("pid"),
    "user": _plain("user"),
    "kernels": _plain("kernels"),
    "cpu": _cpu,
    "memory": _memory,
    "restarts": _plain("restarts"),
    "url": _plain("url"),
    "reason": _reason,
}


def _fit(widths: dict[str, int], columns: int) -> None:
    """Make the columns fit: shorten the reasons, then the addresses, then leave columns out."""
    for key, shortest in (("reason", SHORTEST_REASON), ("url", SHORTEST_URL)):
        _narrow(widths, key, shortest, columns)
    for key in _LEAST_WANTED:
        if _total(widths) <= columns:
            break
        del widths[key]
    # What the last column that went leaves over.
    reason = widths.get("reason")
    if reason is not None:
        widths["reason"] = columns - (_total(widths) - reason)


def _narrow(widths: dict[str, int], key: str, shortest: int, columns: int) -> None:
    excess = _total(widths) - columns
    if excess > 0:
        widths[key] = max(min(widths[key], shortest), widths[key] - excess)


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _line(row: Row, widths: dict[str, int], *, colour: bool) -> str:
    cells = []
    for key, columns in widths.items():
        cell = pad(shorten(row[key], columns), columns, right=key in _TO_THE_RIGHT)
        cells.append(_coloured(cell, row["state"]) if colour and key == "state" else cell)
    return (" " * GAP).join(cells).rstrip()


def _coloured(cell: str, state: str) -> str:
    code = _COLOURS.get(state)
    return cell if code is None else f"\x1b[{code}m{cell}\x1b[0m"
