"""The front door: keeps nginx in line with the configuration, sees when it is not, and tries again what failed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog

from jlabd.nginx.publish import Outcome, Publisher
from jlabd.nginx.reading import Prints
from jlabd.nginx.render import RenderError
from jlabd.processes.command import run
from jlabd.spec import Configuration
from jlabd.status.journal import Journal

log = structlog.get_logger()

LOOK_S = 5.0
"""Pause between two looks at nginx and at the files: one request over loopback, and what stat(2) says."""
SECOND_LOOK_S = 1.0
"""Pause before what was found is believed: somebody may be restarting nginx, or in the middle of an edit."""
WHOLE_LOOK_S = 60.0
"""Pause between two comparisons of all that is written with what should be."""
FIRST_RETRY_S = 15.0
LAST_RETRY_S = 120.0
"""Pauses between attempts that fail; each is twice the one before."""


class FrontDoor:
    """Publishes configurations to nginx; `outcome` is how things stand with it.

    `failures` counts the attempts that failed, `last_load_ok` says whether the last one that was to make nginx load
    something did. `retry_s` is the first pause between attempts.
    """

    def __init__(self, journal: Journal, publisher: Publisher | None = None) -> None:
        self._journal = journal
        self._publisher = publisher or Publisher(run)
        self._wanted: Configuration | None = None
        self._retry_s = FIRST_RETRY_S
        self._retry_at = 0.0
        self._whole_look_at = 0.0
        self._foreign: Prints = {}
        self.outcome = Outcome(ok=True, changed=False, generation=None, error="")
        self.failures = 0
        self.last_load_ok = True

    @property
    def reloads(self) -> int:
        """How often nginx was told to load a configuration."""
        return self._publisher.reloads

    async def publish(self, configuration: Configuration) -> Outcome:
        """Bring nginx into line with `configuration`; an nginx that is switched off is left as it is."""
        outcome = await self.take_back_to(configuration)
        self.last_load_ok = outcome.ok
        return outcome

    async def take_back_to(self, configuration: Configuration) -> Outcome:
        """Do as `publish` does, after another one was refused; `last_load_ok` still speaks of that one."""
        if not configuration.nginx.enabled:
            self._wanted = None
            self.outcome = Outcome(ok=True, changed=False, generation=None, error="")
            return self.outcome
        self._wanted = configuration
        outcome = await self._publisher.publish(configuration)
        self._note(outcome)
        self.failures += not outcome.ok
        self._pace(outcome)
        return outcome

    async def preview(self, configuration: Configuration) -> str:
        """Return what `publish` would change, as a unified diff. Raises RenderError, OSError."""
        return await self._publisher.preview(configuration) if configuration.nginx.enabled else ""

    async def watch(self) -> None:
        """Look for ever whether nginx is still in line, and bring it back when that may succeed."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._wanted is not None and not self._publisher.busy:
                await self._look(self._wanted)

    async def _look(self, wanted: Configuration) -> None:
        try:
            trouble = await self._trouble(wanted)
            due = await self._is_due(wanted, trouble)
        except (RenderError, OSError) as error:
            trouble, due = str(error), self._now() >= self._retry_at
        if self._wanted is not wanted or self._publisher.busy:  # what was seen is being changed
            return
        if due:
            await self.publish(wanted)
        elif trouble and self.outcome.ok:
            self._note(replace(self.outcome, ok=False, changed=False, error=trouble))

    async def _trouble(self, wanted: Configuration) -> str:
        """Return what is wrong at two looks."""
        if trouble := await self._publisher.trouble(wanted):
            await asyncio.sleep(SECOND_LOOK_S)
            trouble = await self._publisher.trouble(wanted)
        return trouble

    async def _is_due(self, wanted: Configuration, trouble: str) -> bool:
        """Say whether an attempt is worth while now. Raises RenderError, OSError."""
        if self._foreign_files_changed():
            return True
        now = self._now()
        if now >= self._whole_look_at:
            self._whole_look_at = now + WHOLE_LOOK_S
            if not self._foreign or not await self._publisher.is_in_place(wanted):
                return now >= self._retry_at
        if trouble:
            return now >= self._retry_at
        if self.outcome.ok:
            return False
        return await self._publisher.is_in_place(wanted) or (self._publisher.needs_retry and now >= self._retry_at)

    def _foreign_files_changed(self) -> bool:
        """Say whether nginx's own files were changed since the last attempt, and are not being changed any more."""
        before, self._foreign = self._foreign, self._publisher.foreign_files()
        return self._foreign == before and self._publisher.foreign_changed(self._foreign)

    def _pace(self, outcome: Outcome) -> None:
        """Set the earliest time for the next attempt."""
        self._retry_at = self._now() + (0.0 if outcome.ok else self._retry_s)
        self._retry_s = FIRST_RETRY_S if outcome.ok else min(2 * self._retry_s, LAST_RETRY_S)

    def _note(self, outcome: Outcome) -> None:
        if outcome.error != self.outcome.error:
            if outcome.error:
                log.warning("nginx is not in line.", error=outcome.error)
            self._journal.record(None, "nginx", None, outcome.error or "nginx is in line again")
        elif outcome.changed:
            log.info("nginx uses a new generation.", generation=outcome.generation)
            self._journal.record(None, "nginx", None, f"nginx uses generation {outcome.generation}")
        self.outcome = outcome

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
