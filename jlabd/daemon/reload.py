"""Reload as a transaction: the whole new configuration is read, judged and tested before anything changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import structlog

from jlabd.config.apart import LIMIT, TIMEOUT_S, reading_command, what_was_read
from jlabd.config.loaded import Loaded
from jlabd.config.problems import ConfigError, Problem
from jlabd.core.reconcile import Plan, reconcile
from jlabd.daemon.front_door import FrontDoor
from jlabd.nginx.render import RenderError
from jlabd.processes.command import run
from jlabd.spec import Configuration, DaemonSpec, InstanceSpec
from jlabd.status.journal import Journal

log = structlog.get_logger()

LIVE_DAEMON_KEYS = frozenset({"admin_group", "log_level", "log_format", "warm_idle_s"})
"""Keys of [daemon] that can change while it runs; the others are where its files and sockets are."""


class ReloadRefusedError(Exception):
    """The new configuration cannot be applied; nothing was changed. The text names the reason."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A new configuration that was read, and what it would change."""

    configuration: Configuration
    plan: Plan
    problems: tuple[Problem, ...]
    """Of included files that were left out; the instances defined there stay as they are."""


class Reloader:
    """Owns the configuration in force. `apply` is called with a plan once nothing can refuse it any more.

    `loads` and `failures` count what was put in force and what was refused.
    """

    def __init__(
        self,
        loaded: Loaded,
        front_door: FrontDoor,
        journal: Journal,
        apply: Callable[[Plan, Configuration], None],
        is_ending: Callable[[], bool],
    ) -> None:
        self.current = loaded.configuration
        self.error = _sentence(loaded.problems)
        self.loads = 1
        self.failures = 0
        self._front_door = front_door
        self._journal = journal
        self._apply = apply
        self._is_ending = is_ending
        self._one_at_a_time = asyncio.Lock()

    async def reload(self, *, dry_run: bool, by: str) -> dict[str, Any]:
        """Apply the configuration on disk, or only say what that would do; returns the plan document."""
        async with self._one_at_a_time:
            try:
                candidate = await self._candidate()
                if dry_run:
                    return _document(candidate, nginx=await self._preview(candidate.configuration))
                return await self._commit(candidate, by)
            except ConfigError as error:
                return self._refused(by, dry_run, [str(problem) for problem in error.problems])
            except ReloadRefusedError as error:
                return self._refused(by, dry_run, [], str(error))

    async def _candidate(self) -> Candidate:
        loaded = await self._read()
        configuration = with_kept_instances(self.current, loaded)
        refuse_moving_house(self.current.daemon, configuration.daemon)
        return Candidate(configuration, reconcile(self.current.instances, configuration.instances), loaded.problems)

    async def _read(self) -> Loaded:
        path = self.current.path
        result = await run(reading_command(path, with_files=True), TIMEOUT_S, limit=LIMIT)
        if result.timed_out:
            raise ReloadRefusedError(f"{path} could not be read within {TIMEOUT_S:.0f} s.")
        return what_was_read(path, result.status, result.output)

    async def _preview(self, configuration: Configuration) -> str:
        """Return what would change for nginx. Raises ReloadRefusedError."""
        try:
            return await self._front_door.preview(configuration)
        except (RenderError, OSError) as error:
            raise ReloadRefusedError(str(error)) from error

    async def _commit(self, candidate: Candidate, by: str) -> dict[str, Any]:
        outcome = await self._front_door.publish(candidate.configuration)
        if self._is_ending():
            raise ReloadRefusedError("jlabd is ending; the next one reads the configuration anew.")
        if outcome.refused:
            await self._front_door.take_back_to(self.current)
            raise ReloadRefusedError(outcome.error)
        self.current = candidate.configuration
        self.error = _sentence(candidate.problems)
        self.loads += 1
        self._apply(candidate.plan, candidate.configuration)
        self._journal.record(None, "reload", None, f"configuration reloaded by {by}: {_summary(candidate.plan)}")
        log.info("The configuration was reloaded.", by=by, result=_summary(candidate.plan))
        return _document(candidate, error=outcome.error)

    def _refused(self, by: str, dry_run: bool, problems: list[str], error: str = "") -> dict[str, Any]:
        if not dry_run:
            self.failures += 1
            self.error = "; ".join([*problems, error] if error else problems)
            self._journal.record(None, "reload", None, f"configuration not reloaded ({by}): {self.error}")
            log.error("The configuration was not reloaded; everything stays as it was.", by=by, error=self.error)
        return {
            "ok": False,
            "refused": True,
            "problems": problems,
            "added": [],
            "changed": {},
            "removed": [],
            "untouched": 0,
            "nginx": "",
            "error": error,
        }


def with_kept_instances(old: Configuration, loaded: Loaded) -> Configuration:
    """Return the new configuration, completed by what is in force from included files that are now broken."""
    kept = {
        name: spec
        for name, spec in old.instances.items()
        if old.sources.get(name) in loaded.broken_files and name not in loaded.configuration.instances
    }
    if not kept:
        return loaded.configuration
    instances: dict[str, InstanceSpec] = {**loaded.configuration.instances, **kept}
    sources = {**loaded.configuration.sources, **{name: old.sources[name] for name in kept}}
    return replace(loaded.configuration, instances=MappingProxyType(instances), sources=MappingProxyType(sources))


def refuse_moving_house(old: DaemonSpec, new: DaemonSpec) -> None:
    """Raise ReloadRefusedError if keys of [daemon] changed that only a new daemon can take."""
    names = [field.name for field in fields(DaemonSpec) if getattr(old, field.name) != getattr(new, field.name)]
    fixed = [f"daemon.{name}" for name in names if name not in LIVE_DAEMON_KEYS]
    if fixed:
        raise ReloadRefusedError(
            f"{', '.join(fixed)} cannot change while jlabd runs: take the change back, "
            f"or stop and start jlabd (systemctl restart jlabd)."
        )


def _document(candidate: Candidate, *, nginx: str = "", error: str = "") -> dict[str, Any]:
    plan = candidate.plan
    return {
        "ok": not candidate.problems,
        "refused": False,
        "problems": [str(problem) for problem in candidate.problems],
        "added": list(plan.added),
        "changed": {name: list(change.fields) for name, change in plan.changed.items()},
        "removed": list(plan.removed),
        "untouched": len(plan.untouched),
        "nginx": nginx,
        "error": error,
    }


def _summary(plan: Plan) -> str:
    return (
        f"{len(plan.added)} added, {len(plan.changed)} changed, {len(plan.removed)} removed, "
        f"{len(plan.untouched)} untouched"
    )


def _sentence(problems: tuple[Problem, ...]) -> str:
    return "; ".join(str(problem) for problem in problems)
