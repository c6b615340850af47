"""The daemon from start to end: what is made in which order, the signals, and the way down."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from jlabd import __version__
from jlabd.config.loaded import Loaded
from jlabd.control.server import ControlServer
from jlabd.control.supervisor import RefusedError
from jlabd.core.reconcile import Plan
from jlabd.core.state import Actual, Instance
from jlabd.daemon import handover, signals
from jlabd.daemon.chronicle import Chronicle
from jlabd.daemon.clock import LoopTimer
from jlabd.daemon.driver import Driver
from jlabd.daemon.ending import labs_are_to_stay
from jlabd.daemon.fdstore import FdStore
from jlabd.daemon.front_door import FrontDoor
from jlabd.daemon.hands import RealHands
from jlabd.daemon.life import Surroundings, sweep
from jlabd.daemon.lock import hold_lock
from jlabd.daemon.manager import feed_watchdog, notify
from jlabd.daemon.observer import Observer
from jlabd.daemon.office import Office, Times
from jlabd.daemon.recovery import Recovery
from jlabd.daemon.reexec import become_successor
from jlabd.daemon.reload import Reloader
from jlabd.daemon.remembering import Remembering
from jlabd.daemon.roster import Roster
from jlabd.daemon.shutdown import Shutdown
from jlabd.daemon.tasks import Tasks
from jlabd.files import ensure_folder
from jlabd.front.listeners import Listeners
from jlabd.front.standin import Standing, StandIns
from jlabd.jupyter.launchers import install
from jlabd.jupyter.probe import Prober
from jlabd.jupyter.secrets import SecretKeeper
from jlabd.processes.choice import choose_trees
from jlabd.processes.descriptors import raise_limit
from jlabd.processes.identity import boot_id
from jlabd.processes.logs import Logs
from jlabd.spec import Configuration, DaemonSpec, InstanceSpec, NginxSpec
from jlabd.status.endpoint import Endpoint
from jlabd.status.journal import Journal
from jlabd.status.metrics import Metrics
from jlabd.status.stream import Broadcast
from jlabd.store import Store
from jlabd.warm.forkserver import ForkServer
from jlabd.warm.parents import Parents

log = structlog.get_logger()

ROTATION_S = 5.0
"""Pause between two looks at the sizes of the instances' logs."""

DRAIN_S = 0.5
"""Time for answers that are under way when the daemon is replaced."""
DRAIN_LOOK_S = 0.01


class App:
    """The daemon. `run` returns when all instances are stopped, or left to the daemon that follows."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._received = handover.receive()
        self._fdstore = FdStore()
        self._tasks = Tasks()
        self._journal = Journal()
        self._times = Times(started=time.monotonic(), loaded=time.monotonic())
        self._down = asyncio.Event()
        self._endpoint: Endpoint | None = None
        self._successor_wanted = False
        self._terminated = False

    async def run(self) -> None:
        """Serve until a signal asks to end. Raises AlreadyRunningError, FolderError, OSError before anything runs."""
        configuration = self._loaded.configuration
        raise_limit()
        async with contextlib.AsyncExitStack() as stack:
            prepare_folders(configuration.daemon)
            self._lock = hold_lock(configuration.daemon.runtime_dir, self._received.pop(handover.LOCK, None))
            stack.callback(os.close, self._lock)
            self._wire(configuration, stack)
            await self._open_doors(configuration, stack)
            self._listen_to_signals(stack)
            self._start_background_work(stack)
            log.info(
                "jlabd is up.", version=__version__, instances=len(configuration.instances), trees=self._trees.kind
            )
            notify("READY=1", _supervising(configuration))
            await self._down.wait()
            while self._successor_wanted and not self._office.stopping:
                await self._become_successor()
                await self._down.wait()
            if self._terminated and await labs_are_to_stay():
                await self._leave_all()
            else:
                await self._stop_all()
        log.info("jlabd has ended.")

    # Making

    def _wire(self, configuration: Configuration, stack: contextlib.AsyncExitStack) -> None:
        daemon = configuration.daemon
        chronicle = Chronicle(self._journal)
        self._trees = choose_trees(daemon.runtime_dir, lambda kill: self._hands.note_memory_kill(kill))  # noqa: PLW0108  (the hands come later)
        stack.callback(self._trees.close)
        self._listeners = Listeners(daemon, nginx_group(configuration.nginx), self._fdstore)
        self._stand_ins = StandIns()
        self._prober = Prober()
        stack.push_async_callback(self._stand_ins.close)
        scripts = install(daemon.runtime_dir)
        self._parents = Parents(self._trees, scripts, daemon.warm_idle_s, self._tasks.start, chronicle.note_parent)
        stack.push_async_callback(self._parents.close)
        self._forks = ForkServer()
        stack.push_async_callback(self._forks.close)
        around = Surroundings(
            daemon,
            self._trees,
            self._listeners,
            SecretKeeper(daemon.state_dir),
            scripts,
            self._parents,
            chronicle.note_cold,
            forks=self._forks,
        )
        self._hands = RealHands(around, self._stand_ins, self._prober, self._tasks, self._standing)
        self._driver = Driver(self._hands, LoopTimer())
        self._hands.post = self._driver.post
        self._driver.watch(chronicle.note)
        store = Store(daemon.state_dir, boot_id())
        self._recovery = Recovery(self._driver, self._hands, store.read(), self._kept_sockets())
        self._remembering = Remembering(self._driver, self._hands, store)
        self._shutdown = Shutdown(self._driver)
        self._roster = Roster(self._driver, self._hands.forget)
        self._front_door = FrontDoor(self._journal)
        self._reloader = Reloader(
            self._loaded, self._front_door, self._journal, self._apply, lambda: self._office.stopping
        )
        self._logs = Logs(daemon.log_dir)
        self._observer = Observer(self._driver, self._hands, self._tasks)
        self._office = Office(
            driver=self._driver,
            hands=self._hands,
            reloader=self._reloader,
            front_door=self._front_door,
            observer=self._observer,
            journal=self._journal,
            logs=self._logs,
            times=self._times,
            call_successor=self._call_successor,
        )
        self._metrics = Metrics(self._office.document, self._office.counts)
        self._driver.watch(self._metrics.note)
        stack.push_async_callback(self._tasks.cancel_all)

    def _kept_sockets(self) -> dict[str, int]:
        prefix = handover.INSTANCE
        kept = [purpose for purpose in self._received if purpose.startswith(prefix)]
        handed_over = {purpose.removeprefix(prefix): self._received.pop(purpose) for purpose in kept}
        return self._fdstore.receive() | handed_over

    async def _open_doors(self, configuration: Configuration, stack: contextlib.AsyncExitStack) -> None:
        """Open the control socket and the HTTP endpoint, let the instances in, then tell nginx."""
        self._control = ControlServer(configuration.daemon.control_socket, self._office, self._admin_group)
        await self._control.start(self._received.pop(handover.CONTROL, None))
        stack.push_async_callback(self._control.close)
        if configuration.daemon.status_listen is not None:
            self._endpoint = Endpoint(
                configuration.daemon.status_listen,
                self._office.document,
                self._office.health,
                self._metrics.exposition,
                Broadcast(self._office.document, self._journal, self._observer.histories),
            )
            await self._endpoint.start(self._received.pop(handover.STATUS, None))
            stack.push_async_callback(self._endpoint.close)
        for unused in self._received.values():
            os.close(unused)
        self._let_in(configuration)
        self._tasks.start(self._front_door.publish(configuration), "nginx")

    def _let_in(self, configuration: Configuration) -> None:
        for spec in configuration.instances.values():
            self._recovery.let_in(spec)
        for stranger in self._recovery.strangers(configuration.instances):
            self._recovery.let_in(stranger)
            self._roster.remove(stranger.name)
        self._fdstore.tidy(self._listeners.descriptors())

    def _listen_to_signals(self, stack: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self._asked_to_terminate,
            signal.SIGINT: self._asked_to_end,
            signal.SIGHUP: self._asked_to_reload,
            signal.SIGUSR2: self._asked_to_reexec,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
            stack.callback(loop.remove_signal_handler, number)
        signals.let_in()

    def _start_background_work(self, stack: contextlib.AsyncExitStack) -> None:
        if self._trees.can_be_born_in():
            self._tasks.start(self._forks.begin(), "fork server")
        self._tasks.start(self._observer.observe(), "observer")
        self._tasks.start(self._front_door.watch(), "nginx watch")
        self._tasks.start(self._rotate_logs(), "log rotation")
        self._tasks.start(self._remembering.keep_writing(), "remembering")
        self._tasks.start(sweep(self._hands.around, self._hands.folders()), "sweeping")
        self._tasks.start(feed_watchdog(), "watchdog")
        stack.push_async_callback(self._tasks.cancel_all)

    # Living

    def _apply(self, plan: Plan, configuration: Configuration) -> None:
        self._roster.apply(plan, dict(configuration.instances))
        self._parents.idle_s = configuration.daemon.warm_idle_s
        for name, change in plan.changed.items():
            if "limits" in change.fields and not change.restart:
                self._hands.limit(configuration.instances[name])
        notify(_supervising(configuration))

    def _admin_group(self) -> str:
        return self._reloader.current.daemon.admin_group

    def _standing(self, name: str) -> Standing:
        entry = self._driver.entry(name)
        return standing(entry.spec, entry.instance, time.monotonic())

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(ROTATION_S)
            for name in tuple(self._driver):
                if name in self._driver and self._driver.entry(name).instance.pid is not None:
                    await self._logs.rotate_if_needed(name, self._driver.entry(name).spec.log)

    # Ending

    def _asked_to_reload(self) -> None:
        if self._office.stopping:
            log.info("jlabd is stopping: the configuration is not read again.")
            return
        self._tasks.start(self._reload_by_signal(), "reload")

    async def _reload_by_signal(self) -> None:
        notify("RELOADING=1", "STATUS=reloading")
        await self._office.reload(dry_run=False, by="SIGHUP")
        notify("READY=1", _supervising(self._reloader.current))

    def _asked_to_reexec(self) -> None:
        self._tasks.start(self._reexec_by_signal(), "reexec")

    async def _reexec_by_signal(self) -> None:
        try:
            await self._office.reexec("SIGUSR2")
        except RefusedError as error:
            log.error("jlabd goes on as it is.", error=str(error))  # noqa: TRY400

    def _call_successor(self) -> None:
        self._successor_wanted = True
        self._down.set()

    async def _become_successor(self) -> None:
        """Hand over to the code on disk; returns only if that failed."""
        self._successor_wanted = False
        self._down.clear()
        await self._drain()
        await self._parents.close()
        await self._forks.close()
        kept = {f"{handover.INSTANCE}{name}": number for name, number in self._listeners.descriptors().items()}
        kept |= {handover.LOCK: self._lock, handover.CONTROL: self._control.descriptor}
        if self._endpoint is not None:
            kept[handover.STATUS] = self._endpoint.descriptor
        self._remembering.write_now()
        try:
            become_successor(kept)
        except OSError as error:
            log.error("jlabd could not replace itself and goes on as it is.", error=str(error))  # noqa: TRY400
            self._control.resume()
            if self._endpoint is not None:
                await self._endpoint.resume()
            for name in self._driver:
                self._driver.answer_again(name)

    async def _drain(self) -> None:
        """Accept nothing more anywhere, and give the answers that are under way a moment to get out."""
        doors = [door for door in (self._control, self._endpoint) if door is not None]
        for door in doors:
            door.pause()
        await self._stand_ins.drain(DRAIN_S)
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            # Look only after a moment: a connection that was accepted just now is not counted yet; and aiohttp tells
            # nobody when one ends.
            await asyncio.sleep(DRAIN_LOOK_S)
            if not any(door.busy for door in doors):
                return

    def _asked_to_terminate(self) -> None:
        self._terminated = True
        self._asked_to_end()

    def _asked_to_end(self) -> None:
        """Begin to end; asked again, kill what still takes its time."""
        self._shutdown.hurry()
        self._office.stopping = True
        self._down.set()

    async def _leave_all(self) -> None:
        """Leave everything as it is: the next daemon goes on with it."""
        log.info("jlabd is being restarted; every instance runs on.")
        notify("STOPPING=1", "STATUS=being restarted, every instance runs on")
        await self._drain()
        self._remembering.write_now()

    async def _stop_all(self) -> None:
        self._remembering.freeze_desired()
        await self._shutdown.stop_all()
        self._remembering.write_now()
        for name in tuple(self._driver):
            self._hands.forget(name)


def standing(spec: InstanceSpec, instance: Instance, now: float) -> Standing:
    """Return what visitors are told of an instance at monotonic time `now`."""
    in_backoff = instance.actual is Actual.BACKOFF and instance.deadline is not None
    return Standing(
        state=instance.actual.value,
        reason=instance.reason,
        since_s=max(0.0, now - instance.since),
        base_url=spec.base_url,
        user=spec.user or "",
        expected_s=instance.start_took_s,
        next_start_s=max(0.0, instance.deadline - now) if in_backoff and instance.deadline is not None else None,
        will_wake=instance.actual is Actual.IDLE,
    )


def _supervising(configuration: Configuration) -> str:
    return f"STATUS=supervising {len(configuration.instances)} instances"


def prepare_folders(daemon: DaemonSpec) -> None:
    """Make the daemon's folders. Raises FolderError."""
    ensure_folder(Path(daemon.runtime_dir), 0o755)
    ensure_folder(Path(daemon.runtime_dir, "labs"), 0o711)
    ensure_folder(Path(daemon.state_dir), 0o700)
    ensure_folder(Path(daemon.log_dir), 0o750)


def nginx_group(nginx: NginxSpec) -> int | None:
    """Return the gid of nginx's workers, None if there is no such group or the daemon may not give files to it."""
    if os.geteuid() != 0:
        return None
    try:
        return grp.getgrnam(nginx.group).gr_gid
    except KeyError:
        if nginx.enabled:
            log.warning("There is no such group: nginx cannot connect to the instances.", group=nginx.group)
        return None
