"""The office: what the control socket and the HTTP endpoint may ask of the daemon, answered from its tables."""

from __future__ import annotations

import asyncio
import os
import signal as signals
import time
from collections.abc import AsyncGenerator, Callable, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from jlabd import __version__
from jlabd.config.accounts import own_name
from jlabd.config.problems import ConfigError
from jlabd.control.supervisor import RefusedError, Settled
from jlabd.core.events import Event, RestartRequested, StartRequested, StopRequested
from jlabd.core.state import Actual, Instance
from jlabd.core.urls import url
from jlabd.daemon.driver import Driver
from jlabd.daemon.front_door import FrontDoor
from jlabd.daemon.hands import RealHands
from jlabd.daemon.observer import Observer
from jlabd.daemon.reexec import why_not
from jlabd.daemon.reload import Reloader
from jlabd.jupyter.secrets import SecretsError
from jlabd.processes.logs import LogError, Logs
from jlabd.spec import InstanceSpec
from jlabd.status.journal import Journal
from jlabd.status.metrics import Counts
from jlabd.status.view import Clock, DaemonFacts, document, instance_document
from jlabd.threads import in_thread

FAREWELL_S = 0.1
"""Time for the answer to reach who asked for a re-execution."""

log = structlog.get_logger()

ENDED_WELL = {"start": {Actual.READY}, "restart": {Actual.READY}, "stop": {Actual.STOPPED}}
ENDED_BADLY = {
    "start": {Actual.FAILED, Actual.BACKOFF, Actual.STOPPED},
    "restart": {Actual.FAILED, Actual.BACKOFF, Actual.STOPPED},
    "stop": set[Actual](),
}


@dataclass(slots=True)
class Times:
    """Moments of the daemon's own life, on the monotonic clock."""

    started: float
    loaded: float


def _read_clock() -> Clock:
    return Clock(time.monotonic(), datetime.now(UTC))


class Office:
    """Implements `control.supervisor.Supervisor`."""

    def __init__(
        self,
        *,
        driver: Driver,
        hands: RealHands,
        reloader: Reloader,
        front_door: FrontDoor,
        observer: Observer,
        journal: Journal,
        logs: Logs,
        times: Times,
        call_successor: Callable[[], None],
    ) -> None:
        self._driver = driver
        self._hands = hands
        self._reloader = reloader
        self._front_door = front_door
        self._observer = observer
        self._journal = journal
        self._logs = logs
        self._times = times
        self._clock = _read_clock()
        self._call_successor = call_successor
        self._own_user = own_name(os.geteuid())
        self._edits = asyncio.Lock()
        self.stopping = False

    @property
    def journal(self) -> Journal:
        """What happened."""
        return self._journal

    def names(self) -> list[str]:
        """Return the names of all instances, in the order of the configuration; leaving ones last."""
        configured = [name for name in self._reloader.current.instances if name in self._driver]
        return configured + [name for name in self._driver if name not in self._reloader.current.instances]

    def owner(self, name: str) -> str | None:
        """Return the account of an instance; None for the daemon's own account or an unknown instance."""
        return self._driver.entry(name).spec.user if name in self._driver else None

    def document(self) -> dict[str, Any]:
        """Return the status document."""
        self._clock = self._clock.read_again(_read_clock())
        return document(self._facts(), [self._entry(name, self._clock) for name in self.names()], self._clock)

    def health(self) -> tuple[bool, str]:
        """Return whether the daemon is well, and if not, why."""
        if self.stopping:
            return False, "jlabd is stopping"
        return True, "ok"

    def counts(self) -> Counts:
        """Return what was counted, for the metrics."""
        return Counts(
            nginx_reloads=self._front_door.reloads,
            nginx_failures=self._front_door.failures,
            nginx_last_load_ok=self._front_door.last_load_ok,
            config_loads=self._reloader.loads,
            config_failures=self._reloader.failures,
            cpu_seconds=self._observer.cpu_seconds(),
            memory_kills=self._hands.around.trees.memory_kills(),
        )

    def request(self, verb: str, name: str, by: str) -> None:
        """Ask for start, stop or restart. Raises RefusedError."""
        if self.stopping and verb != "stop":
            raise RefusedError("jlabd is stopping: it starts nothing any more.")
        self._spec(name)
        self._driver.post(name, _event(verb, by))

    async def settle(self, verb: str, name: str) -> Settled:
        """Return when what `request` asked for has ended; cancelling only ends the waiting. Raises RefusedError."""
        self._spec(name)
        ended: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()

        def look(which: str, _: Instance, instance: Instance) -> None:
            if which == name and not ended.done() and (settled := _settled(verb, instance)) is not None:
                ended.set_result(settled)

        end = self._driver.watch(look)
        try:
            instance = self._driver.entry(name).instance
            look(name, instance, instance)
            return await ended
        finally:
            end()

    def signal(self, name: str, signum: int, by: str) -> None:
        """Send a signal to the server process. Raises RefusedError."""
        self._spec(name)
        try:
            there_is_one = self._hands.signal(name, signum)
        except PermissionError as error:
            raise RefusedError(f"The server of '{name}' belongs to another user than jlabd.") from error
        if not there_is_one:
            raise RefusedError(f"'{name}' has no running server to send a signal to.")
        self._journal.record(name, "signal", None, f"{_signal_name(signum)} sent by {by}")

    async def reload(self, *, dry_run: bool, by: str) -> dict[str, Any]:
        """Apply the edited configuration, or only say what would be done."""
        if self.stopping:
            raise RefusedError("jlabd is stopping: the configuration is not read again.")
        result = await self._reloader.reload(dry_run=dry_run, by=by)
        if not dry_run and result["ok"]:
            self._times.loaded = time.monotonic()
        return result

    async def reexec(self, by: str) -> str:
        """Replace the daemon by the code on disk, if that can start; return a sentence. Raises RefusedError."""
        if self.stopping:
            raise RefusedError("jlabd is stopping: it is not replaced any more.")
        if reason := await why_not():
            self._journal.record(None, "reexec", None, f"not replaced ({by}): {reason}")
            raise RefusedError(f"The code on disk cannot start, so the running jlabd goes on: {reason}")
        log.info("jlabd replaces itself by the code on disk.", by=by)
        asyncio.get_running_loop().call_later(FAREWELL_S, self._call_successor)
        return f"jlabd (pid {os.getpid()}) replaces itself by the code on disk; every instance runs on."

    def url(self, name: str, *, token: bool) -> str:
        """Return the address to open; with `token` one that logs in. Raises RefusedError."""
        spec = self._spec(name)
        return url(spec, self._reloader.current.nginx, self._token(spec) if token else "")

    async def set_password(self, name: str, password_hash: str, by: str) -> str:
        """Write a password's hash into the configuration file that defines the instance. Raises RefusedError."""
        spec = self._spec(name)
        if spec.password_hash_file:
            raise RefusedError(f"'{name}' takes its password from {spec.password_hash_file}: put the hash there.")
        from jlabd.config.edit import edit  # noqa: PLC0415  (it brings pydantic: only for those who change passwords)

        main = Path(self._reloader.current.path)
        source = Path(self._reloader.current.sources.get(name, main))
        try:
            async with self._edits:  # two at a time would each lose what the other wrote
                await in_thread(
                    lambda: edit(source, lambda document: _set_hash(document, name, password_hash), main=main)
                )
        except (ConfigError, OSError) as error:
            raise RefusedError(f"The password was not changed: {error}") from error
        self._journal.record(name, "password", None, f"password changed by {by}; in force after a reload")
        return (
            f"The new password of '{name}' is in {source}. It is in force after `jlabctl reload`, "
            f"which restarts '{name}' (running kernels end)."
        )

    def log_tail(self, name: str, lines: int) -> bytes:
        """Return the last `lines` lines of the instance's log. Raises RefusedError."""
        self._spec(name)
        try:
            return self._logs.tail(name, lines)
        except (LogError, OSError) as error:
            raise RefusedError(str(error)) from error

    async def log_follow(self, name: str, lines: int) -> AsyncGenerator[bytes, None]:
        """Yield the last `lines` lines and then what is added, also across rotation, without end."""
        async with aclosing(self._logs.follow(name, lines)) as pieces:
            async for piece in pieces:
                yield piece

    def _spec(self, name: str) -> InstanceSpec:
        if name not in self._driver:
            raise RefusedError(f"There is no instance '{name}' any more.")
        return self._driver.entry(name).spec

    def _token(self, spec: InstanceSpec) -> str:
        if spec.command:
            raise RefusedError(f"'{spec.name}' runs a program of its own: jlabd has no token for it.")
        if running := self._hands.token(spec.name):
            return running
        try:
            return self._hands.around.secrets.secrets_for(spec).token
        except SecretsError as error:
            raise RefusedError(str(error)) from error

    def _entry(self, name: str, clock: Clock) -> dict[str, Any]:
        entry = self._driver.entry(name)
        address = url(entry.spec, self._reloader.current.nginx)
        observation, launcher = self._observer.observation(name), self._hands.launcher(name)
        return instance_document(entry.spec, entry.instance, observation, address, launcher, clock)

    def _facts(self) -> DaemonFacts:
        outcome = self._front_door.outcome
        return DaemonFacts(
            version=__version__,
            pid=os.getpid(),
            started_at=self._times.started,
            config_path=self._reloader.current.path,
            config_loaded_at=self._times.loaded,
            config_error=self._reloader.error or None,
            nginx_ok=outcome.ok,
            nginx_generation=outcome.generation,
            nginx_error=outcome.error or None,
        )


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _event(verb: str, by: str) -> Event:
    match verb:
        case "start":
            return StartRequested(f"start requested by {by}")
        case "stop":
            return StopRequested(f"stop requested by {by}")
        case "restart":
            return RestartRequested(f"restart requested by {by}")
    raise RefusedError(f"An instance cannot be asked to {verb}.")


def _settled(verb: str, instance: Instance) -> Settled | None:
    if instance.actual in ENDED_WELL[verb]:
        return Settled(ok=True, state=instance.actual.value, reason=instance.reason)
    if instance.actual in ENDED_BADLY[verb]:
        return Settled(ok=False, state=instance.actual.value, reason=instance.reason)
    return None


def _set_hash(document: MutableMapping[str, Any], name: str, password_hash: str) -> None:
    """Set the hash in the table of an instance. Raises RefusedError if it has none: it was made by a template."""
    table = document.get("instance", {}).get(name)
    if table is None:
        raise RefusedError(f"'{name}' comes from a template: give it a table of its own, [instance.{name}], first.")
    table["password_hash"] = password_hash
