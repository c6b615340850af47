"""The managers of programs that are compared, each told in its own words to run the same programs.

A program announces itself: it writes its number and its pid into a FIFO, then becomes a `sleep`. So a start is seen by
an event, the same for all, and no manager is asked for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path

import psutil

TOP = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent
OTHERS = TOP / ".venv-bench/bin"
NODE = TOP / ".cache/bench/node/node_modules/.bin"


SLEEPS = "sleep 100000"
ANSWERS = f"/usr/bin/python3 -I -S {TOP}/benchmarks/answers.py"
"""Answers HTTP on descriptor 3: jlabd asks its programs how they are, and pays for that."""


def script(folder: Path, number: int, version: int = 0, program: str = SLEEPS) -> str:
    """Return the shell line that is a program; another version is another program."""
    return f"echo {number}.{version}.$$ >{folder}/announced; exec {program}"


def asked_for(counts: list[int]) -> tuple[list[int], set[str]]:
    """Return how many, and whose names, the command line has; `counts` if it has no number."""
    words = sys.argv[1:]
    return [int(word) for word in words if word.isdigit()] or counts, {word for word in words if not word.isdigit()}


class Contender(ABC):
    """One manager in a folder of its own, with `count` programs."""

    name: str
    at_rest = SLEEPS
    """What its programs are while it is looked at what it costs."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self.program = SLEEPS
        self.daemon: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def configure(self, changed: int | None = None) -> None:
        """Write the configuration; the program `changed` is another one than before."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return what starts the manager in the foreground."""

    @abstractmethod
    def ask(self, verb: str) -> list[str]:
        """Return the command for “status”, “stop” (of all programs) or “reload” (of an edited configuration)."""

    def begin(self) -> None:
        """Start the manager."""
        log = (self.folder / "log").open("ab")
        command, streams = self.command(), {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL}
        self.daemon = subprocess.Popen(command, env=self.environment(), **streams)  # type: ignore[call-overload]

    def environment(self) -> dict[str, str]:
        """Return the environment of all its commands."""
        return {**os.environ, "PATH": f"{OTHERS}:{NODE}:{os.environ['PATH']}"}

    def run(self, verb: str) -> None:
        """Run one of its commands to the end. Raises subprocess.CalledProcessError with what it said."""
        subprocess.run(self.ask(verb), env=self.environment(), check=True, capture_output=True)

    def end(self) -> None:
        """End the manager and what it runs."""
        assert self.daemon is not None
        self.daemon.terminate()
        self.daemon.wait()

    def pids(self) -> list[int]:
        """Return the processes of the manager itself."""
        assert self.daemon is not None
        return [self.daemon.pid]

    def versions(self, changed: int | None) -> list[str]:
        """Return the shell lines of all programs."""
        return [script(self.folder, number, int(number == changed), self.program) for number in range(self.count)]


class Jlabd(Contender):
    """jlabd, without nginx. A sleep answers nobody, so it may take its time to become ready."""

    name = "jlabd"
    at_rest = ANSWERS

    def configure(self, changed: int | None = None) -> None:
        root = 'user = "root"\nallow_root = true\n' if os.geteuid() == 0 else ""
        instances = "".join(
            f"[instance.p{number}]\ncommand = {json.dumps(['/bin/sh', '-c', line])}\n"
            for number, line in enumerate(self.versions(changed))
        )
        (self.folder / "jlabd.toml").write_text(
            f'[daemon]\nruntime_dir="{self.folder}/run"\nstate_dir="{self.folder}/state"\n'
            f'log_dir="{self.folder}/logs"\ninclude=""\nstatus_listen=""\n[nginx]\nenabled=false\n'
            f'[defaults]\n{root}root_dir="/"\nready.timeout="1d"\nrestart.initial=0\n{instances}'
        )

    def command(self) -> list[str]:
        return [f"{PROGRAMS}/jlabd", "--config", f"{self.folder}/jlabd.toml"]

    def ask(self, verb: str) -> list[str]:
        words = {"status": ["status"], "stop": ["stop", "--all"], "reload": ["reload"]}[verb]
        return [f"{PROGRAMS}/jlabctl", "--socket", f"{self.folder}/run/control.sock", *words]

    def run(self, verb: str) -> None:
        # What does not answer HTTP counts as starting: the exit status of `status` says so.
        subprocess.run(self.ask(verb), env=self.environment(), check=verb != "status", capture_output=True)

    def pids(self) -> list[int]:
        """Return the daemon and its fork server."""
        (daemon,) = super().pids()
        return [daemon, *(each.pid for each in psutil.Process(daemon).children() if each.name() == "jlabd-fork")]


class Supervisor(Contender):
    """supervisord, told not to wait a second before it believes in a start."""

    name = "supervisor"

    def configure(self, changed: int | None = None) -> None:
        place = self.folder
        programs = "".join(
            f"[program:p{number}]\ncommand=/bin/sh -c '{line}'\nstartsecs=0\nautorestart=true\n"
            for number, line in enumerate(self.versions(changed))
        )
        (place / "s.conf").write_text(
            f"[supervisord]\nnodaemon=true\nlogfile={place}/s.log\npidfile={place}/s.pid\nminfds=4096\n"
            f"[unix_http_server]\nfile={place}/s.sock\n[supervisorctl]\nserverurl=unix://{place}/s.sock\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            + programs
        )

    def command(self) -> list[str]:
        return [f"{OTHERS}/supervisord", "-c", f"{self.folder}/s.conf"]

    def ask(self, verb: str) -> list[str]:
        words = {"status": ["status"], "stop": ["stop", "all"], "reload": ["update"]}[verb]
        return [f"{OTHERS}/supervisorctl", "-c", f"{self.folder}/s.conf", *words]


class Circus(Contender):
    """circusd with a watcher for each program."""

    name = "circus"

    def configure(self, changed: int | None = None) -> None:
        watchers = "".join(
            f"[watcher:p{number}]\ncmd = /bin/sh -c '{line}'\nshell = False\nwarmup_delay = 0\n"
            for number, line in enumerate(self.versions(changed))
        )
        place = self.folder
        (place / "circus.ini").write_text(
            f"[circus]\ncheck_delay = 1\nendpoint = ipc://{place}/e\npubsub_endpoint = ipc://{place}/p\n"
            f"stats_endpoint = ipc://{place}/st\n{watchers}"
        )

    def command(self) -> list[str]:
        return [f"{OTHERS}/circusd", f"{self.folder}/circus.ini"]

    def ask(self, verb: str) -> list[str]:
        words = {"status": ["status"], "stop": ["stop", "--waiting"], "reload": ["reloadconfig", "--waiting"]}[verb]
        return [f"{OTHERS}/circusctl", "--endpoint", f"ipc://{self.folder}/e", "--timeout", "60", *words]


class Pm2(Contender):
    """pm2 with an application for each program."""

    name = "pm2"

    def configure(self, changed: int | None = None) -> None:
        applications = [
            {"name": f"p{number}", "script": "/bin/sh", "args": ["-c", line], "interpreter": "none", "min_uptime": 0}
            for number, line in enumerate(self.versions(changed))
        ]
        (self.folder / "apps.json").write_text(json.dumps({"apps": applications}))

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PM2_HOME": f"{self.folder}/pm2"}

    def command(self) -> list[str]:
        return [f"{NODE}/pm2", "start", f"{self.folder}/apps.json"]

    def ask(self, verb: str) -> list[str]:
        words = {
            "status": ["list"],
            "stop": ["stop", "all"],
            "reload": ["startOrRestart", f"{self.folder}/apps.json"],
        }[verb]
        return [f"{NODE}/pm2", *words]

    def pids(self) -> list[int]:
        return [int((self.folder / "pm2/pm2.pid").read_text())]

    def end(self) -> None:
        subprocess.run([f"{NODE}/pm2", "kill"], env=self.environment(), check=True, capture_output=True)
        assert self.daemon is not None
        self.daemon.wait()


CONTENDERS: tuple[type[Contender], ...] = (Jlabd, Supervisor, Circus, Pm2)
