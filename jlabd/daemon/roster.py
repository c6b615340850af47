"""The roster: brings the table of instances into line with a configuration."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from jlabd.core.events import Added, Reconfigured, RestartRequested, StartRequested, StopRequested
from jlabd.core.reconcile import Change, Plan
from jlabd.core.state import Actual, Desired, Instance
from jlabd.daemon.driver import Driver
from jlabd.spec import InstanceSpec

log = structlog.get_logger()


class Roster:
    """Adds, changes and removes instances. `farewell` is called with the name of each that is gone for good."""

    def __init__(self, driver: Driver, farewell: Callable[[str], None]) -> None:
        self._driver = driver
        self._farewell = farewell
        self._leaving: set[str] = set()
        driver.watch(self._seen)

    def apply(self, plan: Plan, specs: dict[str, InstanceSpec]) -> None:
        """Perform `plan`; `specs` are the new ones by name."""
        for name in plan.removed:
            self.remove(name)
        for name, change in plan.changed.items():
            self._change(specs[name], change)
        for name in plan.added:
            self._add(specs[name])

    @property
    def leaving(self) -> frozenset[str]:
        """Names that are no longer in the configuration and not stopped yet."""
        return frozenset(self._leaving)

    def _add(self, spec: InstanceSpec) -> None:
        self._driver.admit(spec)
        if spec.name in self._leaving:
            self._leaving.discard(spec.name)
            if spec.autostart:
                self._driver.post(spec.name, StartRequested("added to the configuration again"))
        else:
            self._driver.post(spec.name, Added(start=spec.autostart))

    def _change(self, spec: InstanceSpec, change: Change) -> None:
        self._driver.admit(spec)
        instance = self._driver.entry(spec.name).instance
        sleeps = instance.actual is Actual.IDLE or instance.going_idle  # it wakes as the new spec says
        if change.restart and instance.desired is Desired.RUNNING and not sleeps:
            reason = f"the configuration changed: {', '.join(change.fields)}"
            self._driver.post(spec.name, RestartRequested(reason))
        elif "idle" in change.fields:
            self._driver.post(spec.name, Reconfigured())

    def remove(self, name: str) -> None:
        """Stop an instance and forget it when it has ended."""
        self._leaving.add(name)
        instance = self._driver.entry(name).instance
        if instance.desired is Desired.RUNNING:
            self._driver.post(name, StopRequested("removed from the configuration"))
        else:  # one that is on its way down is given its time: asked again, it would be killed
            self._forget_if_stopped(name, instance)

    def _seen(self, name: str, _: Instance, after: Instance) -> None:
        self._forget_if_stopped(name, after)

    def _forget_if_stopped(self, name: str, instance: Instance) -> None:
        if name in self._leaving and instance.actual is Actual.STOPPED:
            self._leaving.discard(name)
            self._driver.forget(name)
            self._farewell(name)
            log.info("The instance is gone from the configuration and has ended.", instance=name)
