"""Putting a configuration in force: write, test with nginx itself, swap, reload; or leave everything as it was."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jlabd.nginx.generations import Generations, Links, UnsafeFolderError
from jlabd.nginx.render import RenderError, entry, render
from jlabd.spec import Configuration, NginxSpec

COMMAND_TIMEOUT_S = 30.0
"""How long nginx may take to test a configuration, or to be told of it."""

_NOT_FOUND = 127
_WORDS = 2000
"""Characters of a command's output that an error quotes, from the end: there nginx says what is wrong."""


class CommandResult(Protocol):
    """How a command ended."""

    @property
    def status(self) -> int:
        """Exit status; 127 when there is no such program, or it could not be started."""

    @property
    def output(self) -> str:
        """What it printed, both streams."""

    @property
    def timed_out(self) -> bool:
        """It did not end in time and was killed."""


class CommandRunner(Protocol):
    """Runs a program without a shell, as the daemon's own user. Does not raise for a program that fails."""

    async def __call__(self, argv: Sequence[str], timeout_s: float) -> CommandResult:
        """Run `argv` and return how it ended."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt to publish ended."""

    ok: bool
    changed: bool
    """nginx was told to load a configuration."""
    generation: int | None
    """The generation that is in force; None before the first."""
    error: str
    """Why it is not `ok`, in a sentence, with nginx's own words."""
    refused: bool = False
    """The configuration itself could not be put in place. Not so where there is no nginx, or none that runs."""


class PublishError(Exception):
    """A step failed; the message is a sentence. `refused`: because of the configuration or of what it needs."""

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


class Publisher:
    """Keeps nginx's side of the configuration. One attempt runs at a time; those asked for meanwhile become one."""

    def __init__(self, run: CommandRunner) -> None:
        self._run = run
        self._lock = asyncio.Lock()
        self._wanted = Configuration("")
        self._following: asyncio.Task[Outcome] | None = None
        self.needs_retry = False
        """The last attempt failed for a reason that may pass; the same `publish` again is worth trying."""

    async def publish(self, configuration: Configuration) -> Outcome:
        """Put `configuration` in force, or leave everything as it was and say why; never raises for what may go wrong.

        A caller that is cancelled does not stop the attempt. Asked for twice while another attempt runs, both callers
        get the outcome of the one attempt that follows, with the later configuration.
        """
        self._wanted = configuration
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="publish to nginx")
        return await asyncio.shield(self._following)

    @staticmethod
    def preview(configuration: Configuration) -> str:
        """Return what `publish` would change, as a unified diff; empty if nothing. Raises RenderError, OSError."""
        folder = Generations(Path(configuration.nginx.config_dir))
        return _difference(folder.read(folder.links().live), render(configuration))

    async def _follow(self) -> Outcome:
        async with self._lock:
            self._following = None
            outcome, self.needs_retry = await self._judged(self._wanted)
            return outcome

    async def _judged(self, configuration: Configuration) -> tuple[Outcome, bool]:
        """Make an attempt; return its outcome and whether the same attempt may succeed later."""
        folder = Generations(Path(configuration.nginx.config_dir))
        try:
            return await self._attempt(folder, configuration), False
        except RenderError as error:
            return _failed(folder, str(error)), False
        except PublishError as error:
            return _failed(folder, str(error), refused=error.refused), True
        except UnsafeFolderError as error:
            return _failed(folder, str(error)), True
        except OSError as error:
            return _failed(folder, f"{error.filename or folder.root}: {error.strerror or error}."), True

    async def _attempt(self, folder: Generations, configuration: Configuration) -> Outcome:
        nginx = configuration.nginx
        files = render(configuration)
        links = folder.links()
        if not files and links.none:
            _prepare_if_possible(folder, nginx)
            return Outcome(ok=True, changed=False, generation=None, error="")
        entry_is_new = _prepare(folder, nginx)
        if links.agree and not entry_is_new and folder.read(links.live) == files:
            return Outcome(ok=True, changed=False, generation=links.live, error="")
        candidate = await _candidate(folder, links, files)
        with folder.on_trial(candidate, links.tested):
            await self._test(nginx)
            folder.point("tested", candidate)
        folder.keep(candidate, links.tested)
        await self._reload(nginx)
        folder.point("loaded", candidate)
        return Outcome(ok=True, changed=True, generation=candidate, error="")

    async def _test(self, nginx: NginxSpec) -> None:
        """Let nginx test what `live` points to, with all of its own configuration. Raises PublishError."""
        result = await self._run(nginx.test_command, COMMAND_TIMEOUT_S)
        if problem := _problem(nginx.test_command, result):
            raise PublishError(
                f"nginx does not accept the configuration, so nothing was changed: {problem}",
                refused=result.status != _NOT_FOUND,
            )

    async def _reload(self, nginx: NginxSpec) -> None:
        """Tell nginx. Raises PublishError; the configuration stays in place then, it is tested."""
        result = await self._run(nginx.reload_command, COMMAND_TIMEOUT_S)
        if problem := _problem(nginx.reload_command, result):
            raise PublishError(
                f"nginx could not be told to load its configuration (is it running?): {problem}", refused=False
            )


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


async def _candidate(folder: Generations, links: Links, files: Mapping[str, str]) -> int:
    """Write the candidate, unless the last generation that passed the test says the same."""
    if links.tested is not None and folder.read(links.tested) == files:
        return links.tested
    return await folder.write(files)


def _failed(folder: Generations, error: str, *, refused: bool = True) -> Outcome:
    return Outcome(ok=False, changed=False, generation=folder.links().live, error=error, refused=refused)


def _problem(argv: Sequence[str], result: CommandResult) -> str:
    """Say what went wrong with a command; empty when nothing did."""
    command = " ".join(argv)
    if result.timed_out:
        return f"`{command}` did not end within {COMMAND_TIMEOUT_S:.0f} s."
    if result.status == _NOT_FOUND:
        said = result.output.strip() or f"There is no program {argv[0]}."
        return f"{said} Install nginx, or set nginx.enabled = false."
    if result.status != 0:
        return f"`{command}` says: {result.output.strip()[-_WORDS:] or f'nothing (exit status {result.status})'}"
    return ""
