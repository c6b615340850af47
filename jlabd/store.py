"""What must survive the daemon, in one file: read once at the start, replaced atomically at each change that matters.

A file that cannot be understood, whatever the reason, is set aside and never leads to a kill: the world is looked at
anyway, and what lives is taken over.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import structlog

from jlabd.core.memory import Memory, Server
from jlabd.core.reconcile import LIVE_FIELDS
from jlabd.core.state import Actual, Desired
from jlabd.files import write_atomically
from jlabd.spec import InstanceSpec

log = structlog.get_logger()

VERSION = 1
PATIENCE_S = 5.0
"""How long a write waits for one that is under way."""
LARGEST = 16 * 1024 * 1024
"""Bytes that are read: far more than thousands of instances need. A longer file ends in the middle and is no JSON."""


class Store:
    """The state file in `state_dir`. `boot_id` is this boot's: as with systemd's units, nothing outlives a reboot."""

    def __init__(self, state_dir: str, boot_id: str) -> None:
        self._path = Path(state_dir, "state.json")
        self._boot_id = boot_id
        self._written = b""
        self._failing = False
        self._one_at_a_time = threading.Lock()

    def read(self) -> dict[str, Memory]:
        """Return name → memory; empty when there is none, or none that can be understood."""
        try:
            with self._path.open("rb") as file:
                return self._decode(file.read(LARGEST))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            self._set_aside(error)
            return {}

    def write(self, memories: Mapping[str, Memory]) -> bool:
        """Replace the file if it would change; returns whether it is up to date. Trouble is logged once, not raised."""
        document = {"version": VERSION, "boot_id": self._boot_id, "instances": _encode(memories)}
        data = json.dumps(document, indent=1).encode()
        if data == self._written:
            return True
        try:
            self._replace(data)
        except OSError as error:
            if not self._failing:
                log.warning(
                    "The state cannot be written; labs go on, but an end of jlabd might now be noticed by them.",
                    path=str(self._path),
                    error=str(error),
                )
            self._failing = True
            return False
        if self._failing:
            log.info("The state can be written again.", path=str(self._path))
        self._failing = False
        self._written = data
        return True

    def _replace(self, data: bytes) -> None:
        if not self._one_at_a_time.acquire(timeout=PATIENCE_S):
            raise TimeoutError("the disk does not answer")
        try:
            write_atomically(self._path, data)
        finally:
            self._one_at_a_time.release()

    def _decode(self, data: bytes) -> dict[str, Memory]:
        document = json.loads(data)
        if document["version"] != VERSION:
            raise ValueError(f"it is of version {document['version']!r}, this jlabd knows version {VERSION}")
        if document["boot_id"] != self._boot_id:
            log.info("The machine was started anew since the state was written: what was remembered is over.")
            return {}
        return {name: _memory(entry) for name, entry in document["instances"].items()}

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_name(f"state.json.bad-{time.strftime('%Y%m%dT%H%M%S')}")
        log.warning(
            "The state file cannot be used and is set aside; what runs is found by looking.",
            path=str(self._path),
            aside=str(aside),
            error=str(error),
        )
        try:
            self._path.rename(aside)
        except OSError as failure:
            log.warning("It could not even be set aside.", error=str(failure))


def fingerprints(spec: InstanceSpec) -> dict[str, str]:
    """Return field → fingerprint for the fields whose change needs a restart. Secrets do not show."""
    names = [field.name for field in fields(InstanceSpec) if field.name not in LIVE_FIELDS]
    return {name: hashlib.sha256(_canonical(getattr(spec, name)).encode()).hexdigest()[:16] for name in names}


def _canonical(value: object) -> str:
    return repr(sorted(value.items())) if isinstance(value, Mapping) else repr(value)


def _encode(memories: Mapping[str, Memory]) -> dict[str, Any]:
    encoded = {}
    for name, memory in memories.items():
        server = None if memory.server is None else asdict(memory.server)
        plain = {field.name: getattr(memory, field.name) for field in fields(Memory)}
        encoded[name] = plain | {"server": server, "fields": dict(memory.fields)}
    return encoded


def _memory(entry: Mapping[str, Any]) -> Memory:
    server = entry["server"]
    return Memory(
        desired=Desired(entry["desired"]),
        actual=Actual(entry["actual"]),
        reason=str(entry["reason"]),
        incarnation=int(entry["incarnation"]),
        failures=int(entry["failures"]),
        restarts=int(entry["restarts"]),
        since=_moment(entry["since"]),
        ready_at=None if entry["ready_at"] is None else _moment(entry["ready_at"]),
        remaining_s=None if entry["remaining_s"] is None else _moment(entry["remaining_s"]),
        server=Server(int(server["pid"]), int(server["start_ticks"])) if server else None,
        fields={str(key): str(value) for key, value in entry["fields"].items()},
        active_at=None if entry.get("active_at") is None else _moment(entry["active_at"]),
        activity_mark=None if entry.get("activity_mark") is None else str(entry["activity_mark"]),
        going_idle=bool(entry.get("going_idle")),
    )


def _moment(value: Any) -> float:
    """Return a number of seconds. Raises ValueError for what no clock shows."""
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"{value!r} is no time")
    return seconds
