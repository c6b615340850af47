"""Idleness: from what checks say of a server to the decision that nobody needs it.

No clock of the world enters. A check brings a mark that changes whenever something happens in the server, or none while
something goes on. As long as the mark stays the same nothing has happened; whatever else comes counts as activity at
the moment of the check, never earlier: a lab may sleep one check too late, but not one moment too early. That holds
for what cannot be known too: no answer, the first answer after trouble, another mark than an earlier daemon was shown.

No lab goes to sleep unannounced.
"""

from __future__ import annotations

from dataclasses import replace

from jlabd.core.moves import regular
from jlabd.core.state import Instance
from jlabd.spec import IdleSpec

CHECK_S = 60.0
CHECKS = 10
"""There are at least so many checks in `stop_after`, and at least one each CHECK_S."""

NOTICE_S = 300.0
NOTICE_SHARE = 0.1
"""Sleep is announced this part of `stop_after` before, and at most NOTICE_S before."""

STAYS_AWAKE = "stays awake: something happens in it again"


def notice_s(idle: IdleSpec) -> float:
    """Return how long before it goes to sleep an instance announces that."""
    return min(NOTICE_S, idle.stop_after_s * NOTICE_SHARE)


def watch(idle: IdleSpec, instance: Instance, now: float) -> Instance:
    """Return the ready `instance`, to be checked from now on if its spec wants that; an announcement is withdrawn."""
    reason = instance.reason if instance.sleep_at is None else "stays awake: idle.stop_after was changed"
    if not idle.stop_after_s:
        return replace(instance, reason=reason, active_at=None, activity_mark=None, check_at=None, sleep_at=None)
    active_at = now if instance.active_at is None else instance.active_at
    return replace(instance, reason=reason, active_at=active_at, check_at=now, sleep_at=None)


def checked(idle: IdleSpec, instance: Instance, mark: str | None, now: float) -> Instance:
    """Return the ready `instance` after a check that brought `mark`."""
    if mark is None or mark != instance.activity_mark or instance.active_at is None:
        reason = instance.reason if instance.sleep_at is None else STAYS_AWAKE
        active = replace(instance, reason=reason, active_at=now, activity_mark=mark, sleep_at=None)
        return replace(active, check_at=regular(now, _interval_s(idle)))
    announce_at = instance.active_at + idle.stop_after_s - notice_s(idle)
    if instance.sleep_at is None and now >= announce_at:
        instance = _announced(idle, instance, now - instance.active_at, now)
    next_at = announce_at if instance.sleep_at is None else instance.sleep_at
    return replace(instance, check_at=min(regular(now, _interval_s(idle)), next_at))


def wants_sleep(instance: Instance, now: float) -> bool:
    """Return whether the ready `instance`, checked just now, is not needed any more."""
    return instance.sleep_at is not None and now >= instance.sleep_at


def spoken(seconds: float) -> str:
    """Return a span of time as people say it: "45 s", "1 h 55 min"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    parts = (f"{hours} h" if hours else "", f"{rest} min" if rest else "")
    return " ".join(part for part in parts if part)


def _announced(idle: IdleSpec, instance: Instance, quiet_s: float, now: float) -> Instance:
    in_s = max(notice_s(idle), idle.stop_after_s - quiet_s)
    reason = f"goes to sleep in {spoken(in_s)} unless something happens in it: no activity for {spoken(quiet_s)}"
    return replace(instance, reason=reason, sleep_at=now + in_s)


def _interval_s(idle: IdleSpec) -> float:
    return min(CHECK_S, idle.stop_after_s / CHECKS)
