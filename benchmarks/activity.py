"""What it costs the daemon to know how its labs are: health probes, activity for the status, checks for sleep.

    .venv/bin/python benchmarks/activity.py [LABS] [SECONDS]

One program answers behind LABS unix sockets as jupyter_server does; driver, observer, prober and checks are the
daemon's own, and the labs' processes are played. Prints the daemon's CPU time for each question, and what share of a
core each way of living takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from jlabd.core.events import ActivityChecked, Added, Event, ProbeFailed, ProbeSucceeded, Spawned
from jlabd.daemon.clock import LoopTimer
from jlabd.daemon.driver import Driver
from jlabd.daemon.observer import LOOKED_AT_S, Observer
from jlabd.daemon.tasks import Tasks
from jlabd.jupyter.activity import Activity, ActivityError, activity, activity_mark
from jlabd.jupyter.probe import ProbeError, Prober
from jlabd.processes.usage import Usage, usage
from jlabd.spec import IdleSpec, InstanceSpec, UnixListen

HEAD = (
    "HTTP/1.1 200 OK\r\nServer: TornadoServer/6.5\r\nContent-Type: application/json\r\n"
    "Date: Mon, 05 Jan 2026 06:00:00 GMT\r\nX-Content-Type-Options: nosniff\r\n"
    "Content-Security-Policy: frame-ancestors 'self'; report-uri /a/api/security/csp-report; default-src 'none'\r\n"
    'Etag: "0123456789012345678901234567890123456789"\r\nContent-Length: {length}\r\n\r\n{body}'
)
ANSWERS = {
    "/api": '{"version": "2.21.0"}',
    "/api/status": '{"connections": 0, "kernels": 1, "last_activity": "2026-01-05T05:00:00.000000Z", "started": "x"}',
    "/api/kernels?no_track_activity=1": '[{"id": "1", "name": "python3", "execution_state": "idle", "connections": 0}]',
    "/api/terminals?no_track_activity=1": "[]",
}


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a lab for one request."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = ANSWERS[request.split(" ")[1]]
        writer.write(HEAD.format(length=len(body), body=body).encode())
        writer.close()


async def be_the_labs(folder: str, count: int) -> None:
    """Answer behind all sockets."""
    for number in range(count):
        await asyncio.start_unix_server(answer, f"{folder}/{number}")
    print("ready", flush=True)
    await asyncio.Event().wait()


class PlayedHands:
    """Hands whose servers live at once; what they are asked is asked for real."""

    def __init__(self, labs_pid: int) -> None:
        self._labs_pid = labs_pid
        self._prober = Prober()
        self._tasks: set[asyncio.Task[None]] = set()
        self.post: Callable[[str, Event], None] = lambda _name, _event: None
        self.asked = {"probe": 0, "check": 0, "activity": 0}

    def usage(self, _name: str) -> Usage:
        """Return what the labs' program uses, as if it were one lab's."""
        return usage([self._labs_pid])

    async def activity(self, spec: InstanceSpec) -> Activity:
        """Ask what goes on in it."""
        self.asked["activity"] += 1
        return await activity(spec.listen, spec.base_url, "t", 5)

    def spawn(self, spec: InstanceSpec, incarnation: int) -> None:
        """Live."""
        self.post(spec.name, Spawned(incarnation, self._labs_pid))

    def probe(self, spec: InstanceSpec, incarnation: int, timeout_s: float) -> None:
        """Ask whether it is well."""
        self._do(self._probe(spec, incarnation, timeout_s))

    def check_activity(self, spec: InstanceSpec, incarnation: int) -> None:
        """Ask whether it may sleep."""
        self._do(self._check(spec, incarnation))

    async def _probe(self, spec: InstanceSpec, incarnation: int, timeout_s: float) -> None:
        self.asked["probe"] += 1
        try:
            await self._prober.probe(spec.listen, spec.base_url, is_lab=True, timeout_s=timeout_s)
        except ProbeError as error:
            self.post(spec.name, ProbeFailed(incarnation, str(error)))
        else:
            self.post(spec.name, ProbeSucceeded(incarnation))

    async def _check(self, spec: InstanceSpec, incarnation: int) -> None:
        self.asked["check"] += 1
        try:
            mark = await activity_mark(spec.listen, spec.base_url, "t", 5)
        except ActivityError:
            mark = None
        self.post(spec.name, ActivityChecked(incarnation, mark))

    def _do(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def nothing(self, *_: object) -> None:
        """Do nothing: nobody ends, nobody visits."""

    signal_server = kill_tree = stand_in = usher = step_aside = nothing


async def per_question(folder: str, ask: Callable[[UnixListen], Awaitable[Any]], count: int) -> float:
    """Return the CPU time in ms of one question."""
    before = time.process_time()
    for number in range(count):
        await ask(UnixListen(f"{folder}/{number}"))
    return (time.process_time() - before) / count * 1000


async def by_a_library(listen: UnixListen) -> bytes:
    """Ask as one would with aiohttp, with a connection for each question."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(listen.path, force_close=True)) as session,
        session.get("http://localhost/api/status", headers={"Authorization": "token t"}) as reply,
    ):
        return await reply.read()


async def share_of_a_core(observer: Observer, names: list[str], seconds: float, *, watched: bool) -> float:
    """Return the share of a core in percent while so many seconds pass."""
    cpu, began = time.process_time(), time.monotonic()
    while time.monotonic() - began < seconds:
        if watched:
            for name in names:
                observer.observation(name)
        await asyncio.sleep(2)
    return 100 * (time.process_time() - cpu) / (time.monotonic() - began)


async def live(folder: str, count: int, seconds: float, labs_pid: int, *, sleepy: bool) -> None:
    """Have a table of labs live for a while, and print what that takes."""
    hands = PlayedHands(labs_pid)
    driver = Driver(hands, LoopTimer())
    hands.post = driver.post
    tasks = Tasks()
    observer = Observer(driver, hands, tasks)
    idle = IdleSpec(stop_after_s=7200.0 if sleepy else 0.0)
    for number in range(count):
        spec = InstanceSpec(str(number), UnixListen(f"{folder}/{number}"), idle=idle)
        driver.admit(spec)
        driver.post(spec.name, Added(start=True))
        await asyncio.sleep(seconds / count)  # labs do not all start at once
    tasks.start(observer.observe(), "observer")
    await asyncio.sleep(LOOKED_AT_S)  # it begins as if somebody looked
    title = "with idle.stop_after" if sleepy else "probes and status"
    for watched in (False, True):
        asked = sum(hands.asked.values())
        share = await share_of_a_core(observer, list(driver), seconds, watched=watched)
        rate = (sum(hands.asked.values()) - asked) / seconds
        who = "watched" if watched else "nobody looks"
        print(f"{count} labs, {title}, {who}: {share:.2f} % of a core, {rate:.0f} questions a second")
    await tasks.cancel_all()


async def main(count: int, seconds: float) -> None:
    """Measure all of it."""
    with tempfile.TemporaryDirectory(prefix="jl", dir="/tmp") as folder:
        labs = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "labs", folder, str(count), stdout=subprocess.PIPE
        )
        assert labs.stdout is not None
        await labs.stdout.readline()
        try:
            questions = {
                "GET by aiohttp": by_a_library,
                "activity": lambda listen: activity(listen, "/", "t", 5),
                "check for sleep": lambda listen: activity_mark(listen, "/", "t", 5),
                "health probe": lambda listen: Prober().probe(listen, "/", is_lab=True, timeout_s=5),
            }
            for title, ask in questions.items():
                await per_question(folder, ask, count)  # warm
                print(f"{title}: {await per_question(folder, ask, count):.2f} ms")
            for sleepy in (False, True):
                await live(folder, count, seconds, labs.pid, sleepy=sleepy)
        finally:
            labs.kill()
            await labs.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["labs"]:
        asyncio.run(be_the_labs(sys.argv[2], int(sys.argv[3])))
    else:
        os.environ.setdefault("PYTHONHASHSEED", "0")
        numbers = [float(word) for word in sys.argv[1:]]
        asyncio.run(main(int(numbers[0]) if numbers else 300, numbers[1] if numbers[1:] else 60.0))
