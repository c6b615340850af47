"""One incarnation: what is made for it before its server runs, and what is cleared away after it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from jlabd.core.launch import EX_CONFIG, Account, Launch
from jlabd.daemon.tasks import Turnstile
from jlabd.front.listeners import ListenError, Listeners
from jlabd.jupyter.adminfile import AdminFileError
from jlabd.jupyter.envfile import read_env_file
from jlabd.jupyter.folder import list_folders, make_folder, owner_of, removal, remove_untouched
from jlabd.jupyter.plan import plan
from jlabd.jupyter.secrets import SecretKeeper, SecretsError
from jlabd.jupyter.settings import encode, lab_settings
from jlabd.processes.accounts import UnknownAccount, lookup
from jlabd.processes.exits import Exit, wait_exit
from jlabd.processes.logs import LogError, open_log
from jlabd.processes.spawn import Process, SpawnError
from jlabd.processes.tree import TreeKeeper
from jlabd.spec import DaemonSpec, InstanceSpec, UnixListen
from jlabd.threads import in_thread
from jlabd.warm.birth import Descriptors
from jlabd.warm.fitness import why_cold
from jlabd.warm.forkserver import ForkServer
from jlabd.warm.parents import NotWarmError, Parents

log = structlog.get_logger()

NOTICE_SIZE = 2000
"""Bytes of a launcher's notice that are read: one sentence."""
REMOVAL_S = 5.0
"""For emptying a private folder."""
RELAY_PYTHON = "/usr/bin/python3"
"""Runs the relay: every user may execute it, which is not sure of the daemon's own Python."""


NOBODY = InstanceSpec("", UnixListen(""))


class StartError(Exception):
    """An incarnation could not be started. `reason` is the sentence; `permanent`: useless to try again unchanged."""

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every incarnation needs of the daemon."""

    daemon: DaemonSpec
    trees: TreeKeeper
    listeners: Listeners
    secrets: SecretKeeper
    launcher_dir: str
    parents: Parents
    note_cold: Callable[[str, str], None] = lambda _name, _reason: None
    """Told of an instance that starts cold although it was to be warm, and why."""
    turnstile: Turnstile = field(default_factory=Turnstile)
    """To be passed before each fork."""
    forks: ForkServer = field(default_factory=ForkServer)

    @property
    def labs_dir(self) -> str:
        """The folder of the private folders, one for each incarnation."""
        return f"{self.daemon.runtime_dir}/labs"


@dataclass(slots=True)
class Life:
    """One incarnation and what was made for it."""

    spec: InstanceSpec
    incarnation: int
    account: Account | None = None
    process: Process | None = None
    folder: str = ""
    token: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of the spec that the server was started with."""
    task: asyncio.Task[Any] | None = None
    ending: asyncio.Task[Any] | None = None
    notice: int | None = None
    """Read end of the pipe on which the launcher may say why it cannot run."""
    warm: bool = False
    """The server was forked from a warm parent."""
    why_cold: str = ""
    """Why it was not, if it could have been; a clause."""


async def begin(life: Life, around: Surroundings) -> Process:
    """Start the server of `life` and return when its program runs. Raises StartError."""
    try:
        return await _begin(life, around)
    except (UnknownAccount, SecretsError, AdminFileError) as error:
        raise StartError(str(error), permanent=True) from error
    except (ListenError, SpawnError) as error:
        raise StartError(error.reason, permanent=error.permanent) from error
    except LogError as error:
        raise StartError(str(error), permanent=False) from error
    except OSError as error:
        raise StartError(f"The start could not be prepared: {_lack(error)}.", permanent=False) from error


def _lack(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


async def _begin(life: Life, around: Surroundings) -> Process:
    spec = life.spec
    life.account = await lookup(spec.user, spec.group)
    _refuse_root(spec, life.account)
    await around.turnstile.come()
    listener = around.listeners.open(spec)
    _furnish(life, around)
    enrolment = around.trees.prepare(spec.name, life.account.uid, spec.limits)
    launch = plan(
        spec,
        life.account,
        folder=life.folder,
        launcher_dir=around.launcher_dir,
        mark=enrolment.mark,
        relay_python=RELAY_PYTHON,
        extra_env=await in_thread(lambda: read_env_file(spec.env_file)) if spec.env_file else {},
    )
    with contextlib.ExitStack() as ours:
        output = open_log(around.daemon.log_dir, spec.name)
        ours.callback(os.close, output)
        life.notice, notify = os.pipe2(os.O_CLOEXEC)
        ours.callback(os.close, notify)
        process = await _start(
            life, around, launch, Descriptors(output, listener.fileno(), notify, enrolment.cgroup_fd)
        )
    around.trees.enrol(spec.name, life.account.uid, process.identity)
    return process


async def _start(life: Life, around: Surroundings, launch: Launch, descriptors: Descriptors) -> Process:
    """Start the server warm if that can be, else cold. Raises SpawnError."""
    spec = life.spec
    if not spec.command:
        most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        life.why_cold = why_cold(spec, launch, most_files)
        if not life.why_cold:
            try:
                process, life.why_cold = await around.parents.fork(spec.venv, launch, descriptors)
            except NotWarmError as error:
                life.why_cold = str(error)
            else:
                life.warm = not life.why_cold
                _note_cold(life, around)
                return process
        _note_cold(life, around)
    return await around.forks.spawn(launch, descriptors)


def _note_cold(life: Life, around: Surroundings) -> None:
    if life.why_cold and life.spec.warm:
        around.note_cold(life.spec.name, life.why_cold)


def _refuse_root(spec: InstanceSpec, account: Account) -> None:
    if account.uid == 0 and not spec.allow_root:
        raise StartError(
            f"'{spec.name}' would run as root: give it a user of its own, or set allow_root = true.", permanent=True
        )


def _furnish(life: Life, around: Surroundings) -> None:
    """Make the private folder with everything that only this incarnation may know."""
    assert life.account is not None
    settings = b"{}"
    if not life.spec.command:
        secrets = around.secrets.secrets_for(life.spec, life.account.uid)
        life.token = secrets.token
        settings = encode(lab_settings(life.spec, secrets, life.spec.hostnames))
    life.folder = make_folder(around.labs_dir, life.spec.name, life.incarnation, life.account, settings)


async def outlive(life: Life) -> tuple[Exit, str]:
    """Return how the server of `life` ended, and the launcher's own sentence if it left one."""
    assert life.process is not None
    ended = await wait_exit(life.process)
    said = _said(life) if ended.code == EX_CONFIG else ""
    return ended, said


def _said(life: Life) -> str:
    """Read the launcher's sentence. It comes from a process that the daemon does not trust: printable text only."""
    if life.notice is None:
        return ""
    os.set_blocking(life.notice, False)
    try:
        data = os.read(life.notice, NOTICE_SIZE)
    except BlockingIOError:
        return ""
    text = data.decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text).strip()


async def clear_away(life: Life, around: Surroundings) -> None:
    """Remove what was made for `life`, once nothing of it runs. What cannot be removed is logged and left."""
    if life.notice is not None:
        os.close(life.notice)
        life.notice = None
    if not life.folder or life.account is None:
        return
    try:
        if not await _removed_untouched(life.folder):
            await around.turnstile.come()
            await _empty_as_user(life.spec.name, life.folder, life.account, around)
            Path(life.folder).rmdir()
    except (OSError, SpawnError) as error:
        log.warning(
            "A private folder could not be removed.", folder=life.folder, error=str(error) or "it took too long"
        )
    life.folder = ""


async def _removed_untouched(folder: str) -> bool:
    """Spare a process for a folder that nobody put anything into; so it is with most programs. Raises OSError."""
    async with asyncio.timeout(REMOVAL_S):
        return await in_thread(partial(remove_untouched, folder))


async def sweep(around: Surroundings, in_use: set[str]) -> None:
    """Remove the private folders of incarnations that an earlier daemon did not come to clear away."""
    for folder in list_folders(around.labs_dir):
        if folder not in in_use:
            await clear_away(Life(NOBODY, 0, owner_of(folder), folder=folder), around)


async def _empty_as_user(name: str, folder: str, account: Account, around: Surroundings) -> None:
    """Root never walks a folder that a user controls: the user's own rights empty it. Raises SpawnError, OSError.

    What she does with a process of hers she can do with this one too, stop it or make it run something else: it belongs
    to the instance's tree as all others do, and its time is limited.
    """
    enrolment = around.trees.prepare(name, account.uid)
    launch = replace(removal(folder, account), mark=enrolment.mark)
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    process: Process | None = None
    try:
        async with asyncio.timeout(REMOVAL_S):
            process = await around.forks.spawn(launch, Descriptors(null, None, None, enrolment.cgroup_fd))
            await wait_exit(process)
    except BaseException:
        if process is not None:
            process.abandon()
        raise
    finally:
        os.close(null)
        await around.trees.kill(name)
