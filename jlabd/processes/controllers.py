"""What makes limits hold: the controllers of cgroup v2, handed down to the instances' leaves, and the values there.

A leaf has only the controllers that every cgroup above it hands down, and a cgroup that hands any down may hold no
process of its own (“no internal processes”).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import structlog

from jlabd.processes import cgroup

if TYPE_CHECKING:
    from jlabd.spec import Limits

log = structlog.get_logger()

WANTED = frozenset({"cpu", "memory", "pids"})
"""Controllers that limits need; memory and CPU use are taken from the first two as well."""
_PERIOD_US = 100_000
_PAGE = os.sysconf("SC_PAGE_SIZE")


def available(folder: str) -> frozenset[str]:
    """Return which of the controllers that limits need the cgroup has."""
    return WANTED & frozenset(cgroup.text(f"{folder}/cgroup.controllers").split())


def handed_down(folder: str) -> frozenset[str]:
    """Return which of the controllers that limits need the cgroups below `folder` have."""
    return WANTED & frozenset(cgroup.text(f"{folder}/cgroup.subtree_control").split())


def hand_down(folder: str) -> frozenset[str]:
    """Let the cgroups below `folder` have its controllers, as far as possible; return which they have.

    Nothing is done where processes are: some controllers could be had all the same, but then systemd could start no
    process there any more, as it must in the daemon's own unit after each crash.
    """
    for name in sorted(available(folder) - handed_down(folder)):
        if _holds_processes(folder):
            break
        try:
            cgroup.write(f"{folder}/cgroup.subtree_control", f"+{name}".encode())
        except OSError as error:
            log.debug("A controller cannot be handed down.", cgroup=folder, controller=name, error=str(error))
    return handed_down(folder)


def _holds_processes(folder: str) -> bool:
    """Say whether processes are in the cgroup itself; they do no harm in the topmost one, which has no type."""
    return os.access(f"{folder}/cgroup.type", os.F_OK) and bool(cgroup.text(f"{folder}/cgroup.procs").strip())


def needed(limits: Limits) -> frozenset[str]:
    """Return the controllers without which `limits` cannot be enforced."""
    asked = {
        "cpu": limits.cpu_quota,
        "memory": limits.memory_max or limits.memory_high,
        "pids": limits.tasks_max,
    }
    return frozenset(name for name, value in asked.items() if value is not None)


def machine_lacks(wanted: frozenset[str]) -> frozenset[str]:
    """Return which of the controllers no cgroup v2 of this machine has, whoever asks."""
    roots = cgroup.mount_points()
    return wanted - frozenset().union(*(available(root) for root in roots))


def set_limits(leaf: str, limits: Limits) -> None:
    """Put `limits` in force for a cgroup, as far as it has the controllers. Raises OSError.

    With processes in it this may take long: the system takes memory away from them, or kills, before it returns.
    """
    for file, value in _values(limits).items():
        now = cgroup.text(f"{leaf}/{file}").strip()
        if now and now != value:
            cgroup.write(f"{leaf}/{file}", value.encode())


def _values(limits: Limits) -> dict[str, str]:
    """Return file → content, in the order in which a living tree suffers least, in the system's own spelling."""
    share = limits.cpu_quota
    return {
        "memory.high": _pages(limits.memory_high),
        "memory.max": _pages(limits.memory_max),
        "cpu.max": f"{'max' if share is None else round(share * _PERIOD_US)} {_PERIOD_US}",
        "pids.max": "max" if limits.tasks_max is None else str(limits.tasks_max),
    }


def _pages(size: int | None) -> str:
    return "max" if size is None else str(size // _PAGE * _PAGE)


class Unenforced:
    """Says once in the log what cannot be enforced: a warning at each start would hide others."""

    def __init__(self) -> None:
        self._told: frozenset[str] = frozenset()

    def tell(self, name: str, lacking: frozenset[str]) -> None:
        """Warn if `lacking`, the controllers that an instance has limits for and its leaf has not, are news."""
        if lacking <= self._told:
            return
        self._told |= lacking
        log.warning(
            "Limits cannot be enforced here, instances run without them: a cgroup controller is missing. "
            "`jlabctl doctor` knows more.",
            instance=name,
            lacking=", ".join(sorted(lacking)),
        )
