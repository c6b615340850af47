"""The front door: keeps nginx in line with the configuration, and tries again what failed."""

from __future__ import annotations

import asyncio

import structlog

from jlabd.nginx.publish import Outcome, Publisher
from jlabd.processes.command import run
from jlabd.spec import Configuration
from jlabd.status.journal import Journal

log = structlog.get_logger()

RETRY_S = 15.0


class FrontDoor:
    """Publishes configurations to nginx; `outcome` is how the last attempt ended.

    `reloads` and `failures` count the attempts that made nginx load a configuration, and those that failed.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._publisher = Publisher(run)
        self._wanted: Configuration | None = None
        self.outcome = Outcome(ok=True, changed=False, generation=None, error="")
        self.reloads = 0
        self.failures = 0

    async def publish(self, configuration: Configuration) -> Outcome:
        """Bring nginx into line with `configuration`; an nginx that is switched off is left as it is."""
        if not configuration.nginx.enabled:
            self._wanted = None
            self.outcome = Outcome(ok=True, changed=False, generation=None, error="")
            return self.outcome
        self._wanted = configuration
        outcome = await self._publisher.publish(configuration)
        self._note(outcome)
        self.outcome = outcome
        self.reloads += outcome.changed
        self.failures += not outcome.ok
        return outcome

    def preview(self, configuration: Configuration) -> str:
        """Return what `publish` would change, as a unified diff. Raises RenderError, OSError."""
        return self._publisher.preview(configuration) if configuration.nginx.enabled else ""

    async def keep_trying(self) -> None:
        """Repeat for ever what nginx could not take: it may be installed, started or mended meanwhile."""
        while True:
            await asyncio.sleep(RETRY_S)
            if self._wanted is not None and self._publisher.needs_retry:
                await self.publish(self._wanted)

    def _note(self, outcome: Outcome) -> None:
        if outcome.error != self.outcome.error:
            if outcome.error:
                log.warning("nginx was not brought into line.", error=outcome.error)
            self._journal.record(None, "nginx", None, outcome.error or "nginx is in line again")
        elif outcome.changed:
            log.info("nginx uses a new generation.", generation=outcome.generation)
            self._journal.record(None, "nginx", None, f"nginx uses generation {outcome.generation}")
