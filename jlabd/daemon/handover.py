"""Handing over descriptors to the daemon's next program image, which runs in the same process (see `reexec`)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

VARIABLE = "JLABD_HANDOVER"
"""Environment variable: JSON, purpose → descriptor. Labs never see it: their environment is made anew."""

LOCK = "lock"
CONTROL = "control"
STATUS = "status"
INSTANCE = "instance:"
"""Prefix of an instance's name."""


def offer(descriptors: Mapping[str, int]) -> None:
    """Let `descriptors`, by purpose, survive the next exec. Raises OSError."""
    for descriptor in descriptors.values():
        os.set_inheritable(descriptor, True)
    os.environ[VARIABLE] = json.dumps(dict(descriptors))


def withdraw() -> None:
    """Take an offer back: the exec did not happen."""
    for descriptor in _offered().values():
        os.set_inheritable(descriptor, False)
    os.environ.pop(VARIABLE, None)


def receive() -> dict[str, int]:
    """Return what an earlier image offered, by purpose; the caller owns the descriptors. Empty in a fresh process."""
    received = _offered()
    os.environ.pop(VARIABLE, None)
    for descriptor in received.values():
        os.set_inheritable(descriptor, False)
    return received


def _offered() -> dict[str, int]:
    try:
        found = json.loads(os.environ.get(VARIABLE, "{}"))
        return {str(purpose): int(number) for purpose, number in found.items() if _is_open(int(number))}
    except (ValueError, AttributeError, TypeError):
        return {}


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
