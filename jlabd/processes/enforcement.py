"""Whether limits can be enforced here, in sentences that end with the fix: for those who ask before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jlabd.processes import cgroup, controllers
from jlabd.processes.cgroup_trees import base_folder
from jlabd.processes.choice import LABS_SUFFIX, candidates
from jlabd.spec import Limits

_KEYS = {"memory": "memory_max and memory_high", "cpu": "cpu_quota", "pids": "tasks_max"}
_BOOT_V2 = "boot with systemd.unified_cgroup_hierarchy=1 (on CentOS: grubby --update-kernel=ALL --args=…)"
_DELEGATE = "put Delegate=yes back into jlabd-labs.service (`systemctl edit --full jlabd-labs`), then reboot"
_LABS_UNIT = (
    "let the labs have a unit of their own: install jlabd-labs.service beside jlabd.service "
    "(`systemctl status jlabd-labs` says why it does not run), then stop and start jlabd"
)
_SERVICE = "run jlabd as jlabd.service: systemd gives it and its labs cgroups of their own (Delegate=yes)"
_AGAIN = "restart one of these instances: jlabd then tries again, and its log says what hinders it"
_SHOWN = 3
"""Names of instances in a sentence."""


@dataclass(frozen=True, slots=True)
class Lack:
    """Limits that have no effect, and what to do about it."""

    sentence: str
    fix: str


def machine_lacks(limits: Mapping[str, Limits]) -> list[Lack]:
    """Return what of the instances' limits nothing on this machine can enforce, however the daemon is run."""
    asked = _asked(limits)
    return [_lack(name, asked, "cgroup v2", _BOOT_V2) for name in sorted(controllers.machine_lacks(frozenset(asked)))]


def daemon_lacks(limits: Mapping[str, Limits], runtime_dir: str, pid: int) -> list[Lack]:
    """Return what of the limits the daemon `pid` cannot enforce although the machine could. Raises OSError."""
    asked = _asked(limits)
    rest = frozenset(asked) - controllers.machine_lacks(frozenset(asked))
    own = cgroup.folder_of(pid)
    if own is None:
        return [_lack(name, asked, "the cgroup of jlabd", _SERVICE) for name in sorted(rest)]
    place = candidates(runtime_dir, own)[0]
    have = controllers.handed_down(place) & controllers.handed_down(base_folder(runtime_dir, place))
    return [
        _lack(name, asked, "the labs' cgroup", remedy(place, there=name in controllers.available(place)))
        for name in sorted(rest - have)
    ]


def remedy(place: str, *, there: bool) -> str:
    """Return how labs whose cgroups are below `place` get a controller; `there`: that cgroup itself has it. Pure."""
    if place.endswith(LABS_SUFFIX):
        return _AGAIN if there else _DELEGATE
    return _LABS_UNIT if place.endswith(".service") else _SERVICE


def _asked(limits: Mapping[str, Limits]) -> dict[str, list[str]]:
    """Return controller → the instances that have limits for it."""
    found: dict[str, list[str]] = {}
    for name, each in limits.items():
        for controller in controllers.needed(each):
            found.setdefault(controller, []).append(name)
    return found


def _lack(controller: str, asked: Mapping[str, list[str]], where: str, fix: str) -> Lack:
    names = asked[controller]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    who = ", ".join(names[:_SHOWN]) + more
    return Lack(f"{_KEYS[controller]} of {who} have no effect: {where} lacks the controller “{controller}”", fix)
