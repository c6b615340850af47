"""Who may do what over the control socket. Pure: decisions from values.

- root, the daemon's own account and the members of `admin_group` control everything;
- an instance's own user may do with it what OWNERS_VERBS lists;
- everybody sees which instances there are, and their states, and nothing else of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OWNERS_VERBS = frozenset({"status", "start", "stop", "restart", "logs", "events", "url", "passwd"})

EVERYBODYS_KEYS = frozenset({"name", "state", "since"})
"""What of an instance's entry in the status document everybody sees."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The process at the other end of a connection, as the kernel told when it connected."""

    uid: int
    gid: int
    pid: int
    user: str
    """Account name; "uid 1234" if the system knows none."""
    groups: frozenset[int]
    is_root: bool
    is_admin: bool
    """The daemon's own account, or a member of `admin_group`."""


def may(caller: Caller, verb: str, owner: str | None) -> bool:
    """Return whether `caller` may do `verb` to an instance of the account `owner` (None: the daemon's own account)."""
    return caller.is_root or caller.is_admin or (verb in OWNERS_VERBS and owner is not None and caller.user == owner)


def may_administer(caller: Caller) -> bool:
    """Return whether `caller` may do what concerns all instances."""
    return caller.is_root or caller.is_admin


def redact(document: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """Return the status document as `caller` may see it; what is hidden is null, so that the shape stays."""
    if may_administer(caller):
        return document
    return document | {
        "config": _without_error(document["config"]),
        "nginx": _without_error(document["nginx"]),
        "instances": [_redact_instance(instance, caller) for instance in document["instances"]],
    }


def _without_error(part: dict[str, Any]) -> dict[str, Any]:
    """Hide an error's text, which may speak of anybody's instance."""
    return part if part["error"] is None else part | {"error": "there is an error; an administrator can see which"}


def _redact_instance(instance: dict[str, Any], caller: Caller) -> dict[str, Any]:
    if may(caller, "status", instance["user"]):
        return instance
    return {key: value if key in EVERYBODYS_KEYS else None for key, value in instance.items()}
