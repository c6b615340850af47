"""Managers of trivial programs, side by side: start, respawn, status, what they cost, a reload, the end."""

from __future__ import annotations

import os
import select
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from contenders import CONTENDERS, SLEEPS, Contender, asked_for

RESPAWNS = 10
STATUS_ROUNDS = 7
IDLE_S = 10.0
PATIENCE_S = 120.0


@dataclass
class Figures:
    """What was measured of one contender with `count` programs; seconds and bytes, None where it could not do it."""

    contender: str
    count: int
    start_s: float | None = None
    respawn_s: float | None = None
    status_s: float | None = None
    rss_bytes: int | None = None
    idle_share: float | None = None
    """Of one core."""
    reload_s: float | None = None
    stop_s: float | None = None
    remarks: list[str] = field(default_factory=list)


class Announcements:
    """The FIFO into which programs write that they run."""

    def __init__(self, folder: Path) -> None:
        path = folder / "announced"
        os.mkfifo(path)
        self._fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        self.pids: dict[int, int] = {}

    def close(self) -> None:
        """Close the FIFO."""
        os.close(self._fifo)

    def wait(self, count: int) -> tuple[float, list[int]]:
        """Wait for so many announcements; return when the last came, and the numbers. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE_S
        numbers: list[int] = []
        while len(numbers) < count:
            if not select.select([self._fifo], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"{len(numbers)} of {count} programs started within {PATIENCE_S:.0f} s")
            *lines, self._rest = (self._rest + os.read(self._fifo, 65536)).split(b"\n")
            for line in lines:
                number, _, pid = map(int, line.split(b"."))
                self.pids[number] = pid
                numbers.append(number)
        return time.monotonic(), numbers


@contextmanager
def running(
    kind: type[Contender], count: int, *, at_rest: bool = False
) -> Iterator[tuple[Contender, Announcements, float]]:
    """Give a contender all of whose programs run, and how long that took; in the end nothing of it is left."""
    folder = Path(tempfile.mkdtemp(prefix="jlbench", dir="/tmp"))
    announcements = Announcements(folder)
    contender = kind(folder, count)
    contender.program = kind.at_rest if at_rest else SLEEPS
    contender.configure()
    began = time.monotonic()
    contender.begin()
    try:
        ready, _ = announcements.wait(count)
        yield contender, announcements, ready - began
    finally:
        contender.end()
        for process in psutil.process_iter(["cmdline"]):  # what the manager left
            if str(folder) in " ".join(process.info["cmdline"] or ()):
                process.kill()
        announcements.close()
        shutil.rmtree(folder, ignore_errors=True)


def measure(kind: type[Contender], count: int) -> Figures:
    """Measure everything of one contender with `count` programs."""
    figures = Figures(kind.name, count)
    with running(kind, count) as (contender, announcements, start_s):
        figures.start_s = start_s
        time.sleep(3)  # whatever a manager does after a start is done
        figures.respawn_s = _respawn(announcements, count)
        figures.reload_s = _reload(contender, announcements, figures)
        figures.stop_s = _stop(contender, announcements, figures)
    with running(kind, count, at_rest=True) as (contender, _, _):
        time.sleep(10)
        figures.rss_bytes, figures.idle_share = _cost(contender)
        figures.status_s = _status(contender)
    return figures


def _cost(contender: Contender) -> tuple[int, float]:
    processes = [psutil.Process(pid) for pid in contender.pids()]
    before = sum(sum(process.cpu_times()[:2]) for process in processes)
    time.sleep(IDLE_S)
    used = sum(sum(process.cpu_times()[:2]) for process in processes) - before
    return sum(process.memory_info().rss for process in processes), used / IDLE_S


def _status(contender: Contender) -> float:
    times = []
    for _ in range(STATUS_ROUNDS):
        began = time.monotonic()
        contender.run("status")
        times.append(time.monotonic() - began)
    return statistics.median(times)


def _respawn(announcements: Announcements, count: int) -> float:
    times = []
    for number in range(RESPAWNS):
        began = time.monotonic()
        os.kill(announcements.pids[number % count], signal.SIGKILL)
        again, _ = announcements.wait(1)
        times.append(again - began)
        time.sleep(0.3)
    return statistics.median(times)


def _reload(contender: Contender, announcements: Announcements, figures: Figures) -> float | None:
    """Change one program; return how long it took until it ran in its new form."""
    contender.configure(changed=figures.count - 1)
    began = time.monotonic()
    command = subprocess.Popen(contender.ask("reload"), env=contender.environment(), stdout=subprocess.DEVNULL)
    try:
        again, numbers = announcements.wait(1)
        command.wait(PATIENCE_S)
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        command.kill()
        figures.remarks.append(f"reload: {error}")
        return None
    if numbers != [figures.count - 1]:
        figures.remarks.append("a reload with one changed program starts others again, too")
    return again - began


def _stop(contender: Contender, announcements: Announcements, figures: Figures) -> float | None:
    began = time.monotonic()
    contender.run("stop")
    while any(psutil.pid_exists(pid) and _lives(pid) for pid in announcements.pids.values()):
        if time.monotonic() - began > PATIENCE_S:
            figures.remarks.append("stop: programs live on")
            return None
        time.sleep(0.005)
    return time.monotonic() - began


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def measure_all(counts: list[int], only: set[str] | None = None) -> list[Figures]:
    """Measure all contenders, one after the other for each number of programs."""
    found = []
    for count in counts:
        for kind in CONTENDERS:
            if only and kind.name not in only:
                continue
            figures = measure(kind, count)
            print(figures, flush=True)
            found.append(figures)
    return found


if __name__ == "__main__":
    measure_all(*asked_for([10]))
