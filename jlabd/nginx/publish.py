"""Putting a configuration in force: write, test with nginx itself, swap, reload, see it live; or leave all as is."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jlabd.nginx import marks, reading, verify
from jlabd.nginx.command import COMMAND_TIMEOUT_S, CommandRunner, PublishError, problem
from jlabd.nginx.generations import Generations, Links, UnsafeFolderError
from jlabd.nginx.reading import Prints, Reading, foreign_prints, prints
from jlabd.nginx.render import RenderError, entry, render, stamped
from jlabd.nginx.surroundings import SurroundingsError, look
from jlabd.nginx.trial import Trial
from jlabd.spec import Configuration, NginxSpec

FLOOR_S = 2.0
"""Pause between two reloads at least: each leaves old workers behind for as long as somebody's websocket."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt to publish ended."""

    ok: bool
    changed: bool
    """nginx was made to load a configuration."""
    generation: int | None
    """The generation that was last in force; None before the first."""
    error: str
    """Why it is not `ok`, in a sentence, with nginx's own words."""
    refused: bool = False
    """The configuration itself could not be put in place. Not so where there is no nginx, or none that runs."""


class Publisher:
    """Keeps nginx's side of the configuration. One attempt runs at a time; those asked for meanwhile become one.

    `reloads` counts how often nginx was told to load something. `floor_s`: see FLOOR_S.
    """

    def __init__(self, run: CommandRunner, floor_s: float = FLOOR_S) -> None:
        self._run = run
        self._trial = Trial(run)
        self._floor_s = floor_s
        self._lock = asyncio.Lock()
        self._wanted = Configuration("")
        self._following: asyncio.Task[Outcome] | None = None
        self._earliest = 0.0
        self._in_force: NginxSpec | None = None
        self._own: Prints = {}
        self._foreign: Prints = {}
        self._sound = False
        self.needs_retry = False
        """The last attempt failed for a reason that may pass; the same `publish` again is worth trying."""
        self.reloads = 0

    @property
    def busy(self) -> bool:
        """An attempt is under way, or waits until it is not too early for it."""
        return self._lock.locked()

    async def publish(self, configuration: Configuration) -> Outcome:
        """Put `configuration` in force, or leave everything as it was and say why; never raises for what may go wrong.

        A caller that is cancelled does not stop the attempt. Asked for twice while another attempt runs, or while it is
        too early for the next one, all callers get the outcome of the one attempt that follows, with the latest
        configuration. What nginx has in force already is neither tested nor loaded again.
        """
        self._wanted = configuration
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="publish to nginx")
        return await asyncio.shield(self._following)

    async def preview(self, configuration: Configuration) -> str:
        """Return what `publish` would change, as a unified diff; empty if nothing. Raises RenderError, OSError."""
        folder = _folder(configuration)
        live = folder.read(folder.links().live)
        live.pop(marks.FILE, None)
        return _difference(live, await self._files(configuration))

    async def is_in_place(self, configuration: Configuration) -> bool:
        """Say whether what nginx would read is what `configuration` asks for. Raises RenderError, OSError."""
        folder, files = _folder(configuration), await self._files(configuration)
        live = folder.links().live
        return folder.read(live) == (stamped(configuration, files, live) if live else files)

    async def trouble(self, configuration: Configuration) -> str:
        """Look, cheaply, whether all is still as the last attempt left it; return what is not, in a sentence."""
        folder = _folder(configuration)
        if self._own and prints(folder.paths()) != self._own:
            return f"Somebody else has changed files in {folder.root}."
        links = folder.links()
        if not links.live:
            return ""
        answer = await verify.ask(configuration.nginx)
        well = answer.mark == _mark(folder, links.live) and not answer.orphaned
        return "" if well else f"nginx {answer.words}."

    def foreign_files(self) -> Prints:
        """Look, cheaply, at nginx's own files, as far as they are known."""
        return prints(self._foreign)

    def foreign_changed(self, now: Prints) -> bool:
        """Say whether nginx's own files were others when nginx last read them for us."""
        return now != self._foreign

    async def _follow(self) -> Outcome:
        async with self._lock:
            await self._not_too_early()
            self._following = None
            outcome, self.needs_retry = await self._judged(self._wanted)
            return outcome

    async def _files(self, configuration: Configuration) -> Mapping[str, str]:
        """Return the files of a generation that is not numbered yet. Raises RenderError."""
        return render(configuration, await look(configuration, self._run))

    async def _not_too_early(self) -> None:
        """Wait if it would be a reload too soon after the last one."""
        pause = self._earliest - asyncio.get_running_loop().time()
        if pause > 0:
            try:
                if await self.is_in_place(self._wanted):
                    return
            except (RenderError, OSError):
                return  # the attempt says so
            await asyncio.sleep(pause)

    async def _judged(self, configuration: Configuration) -> tuple[Outcome, bool]:
        """Make an attempt; return its outcome and whether the same attempt may succeed later."""
        folder = _folder(configuration)
        try:
            return await self._attempt(folder, configuration), False
        except SurroundingsError as error:
            return _failed(folder, str(error)), True
        except RenderError as error:
            return _failed(folder, str(error)), False
        except PublishError as error:
            return _failed(folder, str(error), refused=error.refused), True
        except UnsafeFolderError as error:
            return _failed(folder, str(error)), True
        except OSError as error:
            return _failed(folder, f"{error.filename or folder.root}: {error.strerror or error}."), True
        finally:
            self._own = prints(folder.paths())

    async def _attempt(self, folder: Generations, configuration: Configuration) -> Outcome:
        nginx = configuration.nginx
        try:
            files = await self._files(configuration)
        except SurroundingsError:
            _prepare_if_possible(folder, nginx)
            raise
        if not files and folder.links().none:
            _prepare_if_possible(folder, nginx)
            return Outcome(ok=True, changed=False, generation=None, error="")
        entry_is_new = _prepare(folder, nginx)
        links = folder.settle()
        in_place = not entry_is_new and folder.read(links.live) == stamped(configuration, files, links.live or 0)
        if in_place and await self._is_in_force(folder, nginx, links):
            await self._examine_if_needed(nginx)
            return Outcome(ok=True, changed=False, generation=links.live, error="")
        candidate = await _candidate(folder, links, configuration, files)
        try:
            await self._replace(folder, nginx, links, candidate)
        except BaseException:
            if candidate not in {links.live, links.loaded, folder.links().live}:
                folder.drop(candidate)
            raise
        return Outcome(ok=True, changed=True, generation=candidate, error="")

    async def _is_in_force(self, folder: Generations, nginx: NginxSpec, links: Links) -> bool:
        """Ask the running nginx; take note if it has loaded what it would read, by whomever it was told to.

        Raises PublishError where a reload would not help, or make it worse.
        """
        wanted = _mark(folder, links.live)
        # Otherwise somebody may be reloading nginx just now, and its old workers answer as well as its new ones.
        was_well = self._in_force is not None and not self.needs_retry
        answer = await (verify.ask(nginx) if was_well else verify.steadily(nginx, wanted))
        if (answer.silent and links.agree) or answer.orphaned:
            raise PublishError(f"nginx {answer.words}.", refused=False)
        if answer.mark != wanted:
            return False
        if links.live is not None and not links.agree:
            folder.point("loaded", links.live)
        self._in_force = nginx
        return True

    async def _examine_if_needed(self, nginx: NginxSpec) -> None:
        """Raise PublishError if nginx would not start any more with what the administrator has changed."""
        if not self._sound or not self._foreign or self.foreign_changed(self.foreign_files()):
            found = await self._examine(nginx)
            if found.problem:
                raise PublishError(
                    f"The running nginx is in line, but could neither reload nor start again: {found.problem}",
                    refused=False,
                )

    async def _examine(self, nginx: NginxSpec) -> Reading:
        """Let nginx read everything as it lies there. Raises PublishError if our file is not part of it."""
        found = await reading.read(self._run, nginx)
        self._foreign = foreign_prints(found.dump, nginx) if found.dump else self.foreign_files()
        self._sound = not found.problem and found.includes(nginx)
        if not found.includes(nginx):
            path = reading.entry_path(nginx)
            raise PublishError(
                f"nginx's configuration does not include {path}, so nobody would reach a lab through it: "
                f"write `include {path};` into the http {{ }} block of nginx.conf.",
                refused=False,
            )
        return found

    async def _replace(self, folder: Generations, nginx: NginxSpec, links: Links, candidate: int) -> None:
        """Put a candidate in place and in force. Raises PublishError, OSError; all is as it was then.

        But where no nginx runs that could take it, it stays in place, accepted by nginx's test, for the next one.
        """
        unseen = await self._trial.passes_unseen(folder, nginx, candidate)
        await self._examine(nginx)
        before = await verify.ask(self._in_force or nginx)
        failure: PublishError | None = None
        with folder.replaced_by(candidate):
            if not unseen:
                await self._trial.test_in_place(nginx)
            try:
                await self._reload(nginx)
            except PublishError as error:
                if before.mark is not None:
                    raise PublishError(str(error), refused=True) from error
                failure = error
            else:
                await self._see_it_live(folder, nginx, candidate, before.mark)
        folder.keep(candidate, links.live, links.loaded)
        if failure is not None:
            raise failure
        folder.point("loaded", candidate)
        self._in_force = nginx

    async def _reload(self, nginx: NginxSpec) -> None:
        """Tell nginx. Raises PublishError."""
        self.reloads += 1
        self._earliest = asyncio.get_running_loop().time() + self._floor_s
        result = await self._run(nginx.reload_command, COMMAND_TIMEOUT_S)
        if trouble := problem(nginx.reload_command, result):
            raise PublishError(
                f"nginx could not be told to load its configuration (is it running?): {trouble}", refused=False
            )

    async def _see_it_live(self, folder: Generations, nginx: NginxSpec, candidate: int, before: str | None) -> None:
        """Return when every new request is answered by the candidate. Raises PublishError."""
        told = datetime.now()  # noqa: DTZ005  (nginx's log has local times)
        answer = await verify.until_live(nginx, _mark(folder, candidate))
        if answer is None:
            return
        found = await reading.read(self._run, nginx)
        words = found.problem or reading.complaints(found, told) or "nothing; its error log may say more"
        raise PublishError(
            f"nginx was told to load generation {candidate}, but {verify.LIVE_S:.0f} s later it {answer.words}. "
            f"What it says: {words}",
            refused=before is not None,
        )


def _folder(configuration: Configuration) -> Generations:
    return Generations(Path(configuration.nginx.config_dir))


def _mark(folder: Generations, number: int | None) -> str | None:
    """Return what nginx answers when it has loaded a generation as it lies there; None if it has no answer to give."""
    return None if number is None else marks.found(folder.text(number, marks.FILE))


def _difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        before, after = (files.get(name, "").splitlines(keepends=True) for files in (old, new))
        lines += difflib.unified_diff(before, after, f"live/{name}", f"new/{name}")
    return "".join(lines)


def _prepare(folder: Generations, nginx: NginxSpec) -> bool:
    """Make the folder; return whether jlabd.conf had to be written. Raises PublishError, UnsafeFolderError, OSError."""
    if not folder.root.parent.is_dir():
        raise PublishError(
            f"There is no folder {folder.root.parent}: install nginx, or set nginx.enabled = false.", refused=False
        )
    return folder.prepare(entry(nginx))


def _prepare_if_possible(folder: Generations, nginx: NginxSpec) -> None:
    """Write jlabd.conf even when there is nothing to publish: nginx.conf may include it already."""
    if folder.root.parent.is_dir():
        folder.prepare(entry(nginx))


async def _candidate(folder: Generations, links: Links, configuration: Configuration, files: Mapping[str, str]) -> int:
    """Return a generation with these files; a new one is written unless there is one already."""
    for number in {links.live, links.loaded} - {None, 0}:
        if number is not None and folder.read(number) == stamped(configuration, files, number):
            return number
    number = folder.next_number()
    await folder.write(number, stamped(configuration, files, number))
    return number


def _failed(folder: Generations, error: str, *, refused: bool = True) -> Outcome:
    return Outcome(ok=False, changed=False, generation=folder.links().loaded or None, error=error, refused=refused)
