"""Reconcile: compare what runs with what a new configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from jlabd.spec import InstanceSpec

LIVE_FIELDS = frozenset(
    {"autostart", "on_demand", "restart", "stop", "probe", "idle", "limits", "log", "route", "warm"}
)
"""Fields that the daemon, the instance's cgroup or nginx read: a change takes effect without a new incarnation."""


@dataclass(frozen=True, slots=True)
class Change:
    """One instance whose spec changed: the fields, and whether a running server must be restarted for them."""

    fields: tuple[str, ...]
    restart: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reload does, by instance name; everything in order of the new configuration."""

    added: tuple[str, ...]
    changed: Mapping[str, Change]
    removed: tuple[str, ...]
    untouched: tuple[str, ...]


def reconcile(old: Mapping[str, InstanceSpec], new: Mapping[str, InstanceSpec]) -> Plan:
    """Return what leads from `old` to `new`. Equal specs are untouched, whatever became of comments or order."""
    changes = {name: change(old[name], spec) for name, spec in new.items() if name in old and old[name] != spec}
    return Plan(
        added=tuple(name for name in new if name not in old),
        changed=changes,
        removed=tuple(name for name in old if name not in new),
        untouched=tuple(name for name in new if name in old and name not in changes),
    )


def change(old: InstanceSpec, new: InstanceSpec) -> Change:
    """Return which fields differ."""
    names = tuple(field.name for field in fields(InstanceSpec) if getattr(old, field.name) != getattr(new, field.name))
    return Change(names, restart=bool(set(names) - LIVE_FIELDS))
