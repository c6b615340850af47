"""Recovery: a new daemon takes over what an earlier one left, and never starts beside it what runs already."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from jlabd.core.arrival import NOT_STARTED
from jlabd.core.events import Added, Recovered, RestartRequested
from jlabd.core.launch import Account
from jlabd.core.memory import Memory, changed_fields, recall
from jlabd.core.state import Actual, Desired, Instance
from jlabd.daemon.driver import Driver
from jlabd.daemon.hands import RealHands
from jlabd.daemon.life import Life, Surroundings
from jlabd.front.listeners import ListenError
from jlabd.jupyter.adminfile import AdminFileError
from jlabd.jupyter.folder import list_folders, owner_of
from jlabd.jupyter.secrets import SecretsError
from jlabd.processes.identity import Identity, boot_id
from jlabd.processes.spawn import Process, adopt
from jlabd.processes.survivors import find_server, is_warm, sockets_of
from jlabd.spec import InstanceSpec, UnixListen
from jlabd.store import fingerprints

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Found:
    """What lives of one instance."""

    process: Process | None
    tree_empty: bool


class Recovery:
    """Lets instances into the table, each as it was left."""

    def __init__(
        self, driver: Driver, hands: RealHands, memories: Mapping[str, Memory], sockets: dict[str, int]
    ) -> None:
        """`sockets` are descriptors of listening sockets that were kept elsewhere, by instance; owned from now on."""
        self._driver = driver
        self._hands = hands
        self._around = hands.around
        self._memories = memories
        self._sockets = sockets
        self._incarnations = incarnations(hands.around.labs_dir)

    def let_in(self, spec: InstanceSpec) -> None:
        """Enter `spec` into the table: as remembered, as found, or as new. Raises OSError if it could not be looked."""
        self._take_back_socket(spec)
        memory = self._memory(spec.name)
        found = look_for(self._around, spec.name, memory)
        instance = self._instance(spec, memory, found)
        self._driver.admit(spec, instance)
        if memory is None and found.tree_empty:
            self._driver.post(spec.name, Added(start=spec.autostart))
            return
        life = self._life(spec, instance.incarnation, found)
        life.fields = fingerprints(spec) if memory is None else memory.fields
        self._hands.take_over(life)
        pid = None if found.process is None else found.process.pid
        self._driver.post(spec.name, Recovered(pid, found.tree_empty, random.random()))  # noqa: S311  (jitter)
        self._restart_if_changed(spec, memory)

    def strangers(self, configured: Mapping[str, InstanceSpec]) -> Iterator[InstanceSpec]:
        """Yield specs for what is configured no more, but has living processes: to be let in, and stopped."""
        self._close_unused_sockets()
        for name in sorted((self._memories.keys() | self._incarnations.keys()) - configured.keys()):
            if not look_for(self._around, name, None).tree_empty:
                socket = f"{self._around.daemon.sockets_dir}/{name}.sock"
                yield InstanceSpec(name, UnixListen(socket), allow_root=True)

    def _memory(self, name: str) -> Memory | None:
        """Return what is remembered; of one that never ran only that somebody stopped it: else autostart decides."""
        memory = self._memories.get(name)
        if memory is None or memory.incarnation > 0:
            return memory
        return memory if memory.desired is Desired.STOPPED and memory.reason != NOT_STARTED else None

    def _close_unused_sockets(self) -> None:
        while self._sockets:
            os.close(self._sockets.popitem()[1])

    def _instance(self, spec: InstanceSpec, memory: Memory | None, found: Found) -> Instance:
        number = self._incarnations.get(spec.name, 0)
        if memory is not None:
            recalled = recall(memory, time.monotonic())
            return replace(recalled, incarnation=max(number, memory.incarnation))
        running = spec.autostart or found.process is not None
        return Instance(
            desired=Desired.RUNNING if running else Desired.STOPPED,
            actual=Actual.STOPPED if found.tree_empty else Actual.STARTING,
            since=time.monotonic(),
            incarnation=number,
        )

    def _life(self, spec: InstanceSpec, incarnation: int, found: Found) -> Life:
        """Return the incarnation with all that was made for it; what nobody uses any more is left to be swept."""
        process = found.process
        life = Life(spec, incarnation, process=process)
        folder = f"{self._around.labs_dir}/{spec.name}.{incarnation}"
        if Path(folder).is_dir() and not found.tree_empty:
            life.folder, life.account = folder, owner_of(folder)
        if process is None:
            return life
        if not spec.command:
            life.token = token_of(self._around, spec, life.account)
        life.warm = is_warm(process.pid)
        self._recover_socket(spec, process)
        log.info("A running server was found and is taken over.", instance=spec.name, pid=process.pid)
        return life

    def _take_back_socket(self, spec: InstanceSpec) -> None:
        descriptor = self._sockets.pop(spec.name, None)
        if descriptor is None:
            return
        try:
            self._around.listeners.adopt(spec, descriptor)
        except ListenError as error:
            log.warning("A socket that was kept cannot be used again.", instance=spec.name, error=error.reason)
            os.close(descriptor)

    def _recover_socket(self, spec: InstanceSpec, process: Process) -> None:
        if self._around.listeners.holds(spec):
            return
        for descriptor in sockets_of(process):
            try:
                self._around.listeners.adopt(spec, descriptor)
            except ListenError:
                os.close(descriptor)
            else:
                return
        log.warning(
            "The listening socket of a running server could not be had back: the server goes on with it, and its next "
            "restart gets a new one. Requests that come just then may fail.",
            instance=spec.name,
        )

    def _restart_if_changed(self, spec: InstanceSpec, memory: Memory | None) -> None:
        changed = changed_fields(memory, fingerprints(spec)) if memory is not None else ()
        instance = self._driver.entry(spec.name).instance
        if changed and instance.pid is not None and instance.desired is Desired.RUNNING:
            reason = f"the configuration changed while no jlabd ran: {', '.join(changed)}"
            self._driver.post(spec.name, RestartRequested(reason))


def look_for(around: Surroundings, name: str, memory: Memory | None) -> Found:
    """Look at what lives of the instance `name`. Raises OSError."""
    server = None if memory is None else memory.server
    remembered = None if server is None else Identity(server.pid, server.start_ticks, boot_id())
    members = around.trees.survivors(name)
    who = find_server(members, remembered)
    process = None if who is None else adopt(who)
    return Found(process, tree_empty=not members)


def token_of(around: Surroundings, spec: InstanceSpec, account: Account | None) -> str:
    """Return the token of a running lab; empty if its secrets cannot be read any more."""
    try:
        return around.secrets.secrets_for(spec, None if account is None else account.uid).token
    except (SecretsError, AdminFileError) as error:
        log.warning("The token of a running lab cannot be read.", instance=spec.name, error=str(error))
        return ""


def incarnations(labs_dir: str) -> dict[str, int]:
    """Return instance → the highest incarnation that has a private folder."""
    highest: dict[str, int] = {}
    for folder in list_folders(labs_dir):
        name, _, number = Path(folder).name.rpartition(".")
        if name and number.isdigit():
            highest[name] = max(highest.get(name, 0), int(number))
    return highest
