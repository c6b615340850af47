"""The hands: perform the machine's actions on the real world, in background tasks, and post what came of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from jlabd.core.events import (
    ActivityChecked,
    Event,
    Exited,
    MemoryRanOut,
    ProbeFailed,
    ProbeSucceeded,
    Spawned,
    SpawnFailed,
    TreeEmptied,
    Visited,
)
from jlabd.core.memory import Server
from jlabd.daemon.life import Life, StartError, Surroundings, begin, clear_away, outlive
from jlabd.daemon.tasks import Tasks
from jlabd.front.listeners import ListenError
from jlabd.front.standin import Standing, StandIns
from jlabd.jupyter.activity import Activity, ActivityError, activity, activity_mark
from jlabd.jupyter.http import CannotAskError
from jlabd.jupyter.probe import ProbeError, Prober
from jlabd.processes import procfs
from jlabd.processes.tree import MemoryKill
from jlabd.processes.usage import Usage
from jlabd.spec import InstanceSpec
from jlabd.store import fingerprints

log = structlog.get_logger()

ACTIVITY_TIMEOUT_S = 10.0
"""A lab that opens a large notebook is silent for seconds."""
CANNOT_ASK_PAUSE_S = 5.0


class RealHands:
    """Implements `driver.Hands` with processes, sockets and probes."""

    def __init__(
        self,
        around: Surroundings,
        stand_ins: StandIns,
        prober: Prober,
        tasks: Tasks,
        standing: Callable[[str], Standing],
    ) -> None:
        self.around = around
        self._stand_ins = stand_ins
        self._prober = prober
        self._tasks = tasks
        self._standing = standing
        self._lives: dict[str, Life] = {}
        self.post: Callable[[str, Event], None] = lambda _name, _event: None
        """Where events go; set once the driver exists."""

    # driver.Hands

    def spawn(self, spec: InstanceSpec, incarnation: int) -> None:
        """Start the server: Spawned or SpawnFailed follows, and Exited in the end."""
        life = Life(spec, incarnation, fields=fingerprints(spec))
        self._lives[spec.name] = life
        life.task = self._tasks.start(self._live(life), f"{spec.name} incarnation {incarnation}")

    def signal_server(self, spec: InstanceSpec, incarnation: int, signal: int) -> None:
        """Signal the server process alone."""
        life = self._lives.get(spec.name)
        if life is None or life.incarnation != incarnation or life.process is None:
            return
        try:
            life.process.signal(signal)
        except PermissionError:  # it became somebody else, by sudo for instance
            log.warning("The server belongs to another user and cannot be asked to end.", instance=spec.name)

    def kill_tree(self, spec: InstanceSpec, incarnation: int) -> None:
        """Call off a spawn that is under way and kill what there is: TreeEmptied follows."""
        life = self._lives.get(spec.name)
        if life is None or life.incarnation != incarnation or life.ending is not None:
            return
        life.ending = self._tasks.start(self._end(life), f"{spec.name} end of incarnation {incarnation}")

    def probe(self, spec: InstanceSpec, incarnation: int, timeout_s: float) -> None:
        """Ask the server: ProbeSucceeded or ProbeFailed follows."""
        self._tasks.start(self._probe(spec, incarnation, timeout_s), f"{spec.name} probe")

    def check_activity(self, spec: InstanceSpec, incarnation: int) -> None:
        """Ask the server what goes on in it: ActivityChecked follows."""
        self._tasks.start(self._check_activity(spec, incarnation), f"{spec.name} activity check")

    def stand_in(self, spec: InstanceSpec) -> None:
        """Begin to answer on the instance's socket."""
        self._answer(spec, hold=False)

    def usher(self, spec: InstanceSpec) -> None:
        """Begin to answer people on the instance's socket, and to keep other requests for the server."""
        if self.around.listeners.holds(spec):
            self._answer(spec, hold=True)
        else:  # a new socket would take the place of the one that a server listens on
            self._stand_ins.stop(spec.name)

    def _answer(self, spec: InstanceSpec, *, hold: bool) -> None:
        name = spec.name
        try:
            self._stand_ins.start(
                name,
                self.around.listeners.open(spec),
                lambda: self._standing(name),
                hold=hold,
                visited=lambda: self.post(name, Visited()),
            )
        except (ListenError, OSError) as error:
            log.warning("Nobody can answer for the instance.", instance=name, error=str(error))

    def step_aside(self, spec: InstanceSpec) -> None:
        """Stop answering on the instance's socket."""
        self._stand_ins.stop(spec.name)

    # For the office and the observer

    def signal(self, name: str, signum: int) -> bool:
        """Send `signum` to the server of `name`; returns whether there is one. Raises PermissionError."""
        life = self._lives.get(name)
        if life is None or life.process is None:
            return False
        life.process.signal(signum)
        return True

    def token(self, name: str) -> str:
        """Return the token of the running incarnation, empty if it has none."""
        life = self._lives.get(name)
        return life.token if life is not None else ""

    def usage(self, name: str) -> Usage:
        """Return what an instance uses of the machine. Raises OSError."""
        return self.around.trees.usage(name)

    async def activity(self, spec: InstanceSpec) -> Activity:
        """Return what a lab says of itself. Raises ActivityError, also for a program of which no token is known."""
        return await activity(spec.listen, spec.base_url, self.token(spec.name), ACTIVITY_TIMEOUT_S)

    def take_over(self, life: Life) -> None:
        """Go on with an incarnation that an earlier daemon began; its server may live or not."""
        self._lives[life.spec.name] = life
        if life.process is not None:
            uid = procfs.real_uid(life.process.pid) if life.account is None else life.account.uid
            self.around.trees.enrol(life.spec.name, uid, life.process.identity)
            name = f"{life.spec.name} incarnation {life.incarnation}"
            life.task = self._tasks.start(self._see_to_the_end(life), name)
            self.limit(life.spec)

    def limit(self, spec: InstanceSpec) -> None:
        """Put the limits of `spec` in force for what runs, or is being started."""
        life = self._lives.get(spec.name)
        if life is not None:
            life.spec = replace(life.spec, limits=spec.limits)
        self._tasks.start(self.around.trees.limit(spec.name, spec.limits), f"{spec.name} limits")

    def note_memory_kill(self, kill: MemoryKill) -> None:
        """Tell that the kernel killed processes of an instance."""
        life = self._lives.get(kill.instance)
        if life is not None:
            self.post(kill.instance, MemoryRanOut(life.incarnation, kill.processes, kill.describe()))

    def server(self, name: str) -> Server | None:
        """Return who the server of `name` is, None if it has none."""
        life = self._lives.get(name)
        if life is None or life.process is None:
            return None
        return Server(life.process.identity.pid, life.process.identity.start_ticks)

    def fields(self, name: str) -> Mapping[str, str]:
        """Return the fingerprints of the spec that the last incarnation was started with."""
        life = self._lives.get(name)
        return life.fields if life is not None else {}

    def launcher(self, name: str) -> tuple[str, str]:
        """Return how the last server of `name` was started, “warm” or “cold”, and why not warm, if it could be."""
        life = self._lives.get(name)
        if life is None:
            return "cold", ""
        return ("warm", "") if life.warm else ("cold", life.why_cold)

    def folders(self) -> set[str]:
        """Return the private folders that are in use."""
        return {life.folder for life in self._lives.values() if life.folder}

    def forget(self, name: str) -> None:
        """Let go of everything that belongs to an instance that is gone for good."""
        self._stand_ins.stop(name)
        self.around.listeners.close(name)
        self._lives.pop(name, None)

    # The tasks

    async def _live(self, life: Life) -> None:
        name, number, limits = life.spec.name, life.incarnation, life.spec.limits
        try:
            life.process = await begin(life, self.around)
        except StartError as error:
            await clear_away(life, self.around)
            self.post(name, SpawnFailed(number, error.reason, error.permanent, random.random()))  # noqa: S311  (jitter)
            return
        if life.spec.limits != limits:
            self.limit(life.spec)
        self.post(name, Spawned(number, life.process.pid))
        await self._see_to_the_end(life)

    async def _see_to_the_end(self, life: Life) -> None:
        ended, said = await outlive(life)
        life.process = None
        reason = said or f"the server {ended.describe(self.around.trees.memory_kill(life.spec.name))}"
        self.post(life.spec.name, Exited(life.incarnation, reason, ended.clean, permanent=bool(said)))

    async def _end(self, life: Life) -> None:
        """Leave nothing of an incarnation: neither a process nor a file."""
        if life.process is None and life.task is not None:
            life.task.cancel()
        await self.around.trees.kill(life.spec.name)
        if life.task is not None:
            await asyncio.wait([life.task])
        await clear_away(life, self.around)
        self.post(life.spec.name, TreeEmptied(life.incarnation, random.random()))  # noqa: S311  (jitter)

    async def _probe(self, spec: InstanceSpec, incarnation: int, timeout_s: float) -> None:
        """Ask until an answer or its lack says something of the server, and not of the daemon's own trouble."""
        while True:
            try:
                await self._prober.probe(spec.listen, spec.base_url, not spec.command, timeout_s)
            except ProbeError as error:
                self.post(spec.name, ProbeFailed(incarnation, str(error)))
            except CannotAskError as error:
                log.warning("Whether an instance is well is not known.", instance=spec.name, error=str(error))
                await asyncio.sleep(CANNOT_ASK_PAUSE_S)
                continue
            else:
                self.post(spec.name, ProbeSucceeded(incarnation))
            return

    async def _check_activity(self, spec: InstanceSpec, incarnation: int) -> None:
        """Look closely; what cannot be known counts as activity."""
        try:
            mark = await activity_mark(spec.listen, spec.base_url, self.token(spec.name), ACTIVITY_TIMEOUT_S)
        except ActivityError as error:
            log.debug("It is not known what goes on in an instance.", instance=spec.name, error=str(error))
            mark = None
        self.post(spec.name, ActivityChecked(incarnation, mark))
