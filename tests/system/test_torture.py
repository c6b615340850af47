"""Torture: everything at random moments out of a printed seed, then everything must be as it should.

JLABD_TORTURE_S is how long (seconds), JLABD_TORTURE_SEED which moments. `make torture` runs it for ten minutes.
"""

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from rig.daemon import WITHOUT_CGROUPS, Jlabd
from rig.processes import is_alive, open_descriptors, with_argument
from rig.unix_http import ask, get
from rig.waiting import until
from rig.web import web

SECONDS = float(os.environ.get("JLABD_TORTURE_S", "25"))
SEED = int(os.environ.get("JLABD_TORTURE_SEED", str(time.time_ns() % 1_000_000)))
NAMES = ("a", "b", "c", "d")
LAB = "lab"
"""A real JupyterLab; the others are small web servers with children that hide."""


class Torturer:
    """Does the worst to one daemon, and keeps in mind what should be the case in the end."""

    def __init__(self, daemon, chance, venv):
        self.daemon = daemon
        self.venv = venv
        self.chance = chance
        self.stopped = set()
        self.configured = {"a", "b", "c", LAB}
        self.done = []
        self.full = daemon.folder / "state/full"

    def one(self):
        """Do one thing."""
        daemon = (self.kill_daemon, self.end_daemon, self.reexec, self.edit, self.bad_edit)
        labs = (self.kill_server, self.kill_child, self.kill_kernel, self.stop, self.start, self.restart)
        what = self.chance.choice((*daemon, *labs, self.fill_disk, self.free_disk))
        self.done.append(what.__name__)
        what()
        time.sleep(self.chance.expovariate(3))  # the moments are the test

    def ctl(self, *words):
        """Run a command; it may fail if the daemon was just killed, but never hang."""
        return self.daemon.ctl(*words, timeout=60)

    def kill_daemon(self):
        """Kill it without a word, sometimes twice in a row before it is up."""
        self.daemon.process.send_signal(signal.SIGKILL)
        self.daemon.process.wait()
        self.daemon.start(wait=self.chance.random() < 0.7)

    def end_daemon(self):
        """End it in order, and start it again: what ran before runs again."""
        assert self.daemon.stop() == 0, self.daemon.said()[-3000:]
        self.daemon.start()

    def reexec(self):
        """Replace it."""
        self.ctl("reexec")

    def kill_server(self):
        """Kill a server, or freeze it for ever."""
        for pid in self.chance.sample(servers(self.daemon), k=min(1, len(servers(self.daemon)))):
            kill(pid, self.chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV]))

    def kill_child(self):
        """Kill something that a server started."""
        for pid in with_argument(f"{self.daemon.folder.name}-child")[:1]:
            kill(pid, signal.SIGKILL)

    def kill_kernel(self):
        """Start a kernel in the real lab, and kill one that runs."""
        token = self.ctl("url", LAB, "--token").stdout.partition("token=")[2].strip()
        with contextlib.suppress(OSError, http.client.HTTPException):  # the lab may be down, or die just now
            path, headers = f"/{LAB}/api/kernels", {"Authorization": f"token {token}"}
            ask(self.daemon.folder / f"run/sockets/{LAB}.sock", "POST", path, 2, headers=headers)
        for pid in self.chance.sample(kernels(self.daemon), k=min(1, len(kernels(self.daemon)))):
            kill(pid, signal.SIGKILL)

    def edit(self):
        """Change what is configured, and how."""
        self.configured = {"a", LAB} | {name for name in NAMES if self.chance.random() < 0.6}
        self.write()
        self.ctl("reload")

    def bad_edit(self):
        """Write nonsense, reload, take it back."""
        good = self.daemon.path.read_text()
        self.daemon.path.write_text(good + "\n[instance.a]\nnonsense")
        assert self.ctl("reload").returncode in {1, 4}
        self.daemon.path.write_text(good)

    def write(self):
        """Write the configuration; every instance starts hidden children."""
        number = self.chance.randrange(3)
        parts = [web(name, "children", env=f'{{ NUMBER = "{number}" }}') for name in sorted(self.configured - {LAB})]
        lab = f"[instance.{LAB}]\nvenv = '{self.venv}'\nroot_dir = '{{folder}}/home'\n"
        self.daemon.write(lab + "".join(parts))

    def stop(self):
        """Stop one."""
        self._request("stop")

    def start(self):
        """Start one."""
        self._request("start")

    def restart(self):
        """Restart one."""
        self._request("restart")

    def _request(self, verb):
        name = self.chance.choice(sorted(self.configured))
        if self.ctl(verb, name, *self.chance.choice([[], ["--no-wait"]])).returncode in {0, 1}:
            (self.stopped.add if verb == "stop" else self.stopped.discard)(name)

    def fill_disk(self):
        """Leave no byte for the state."""
        if os.path.ismount(self.full.parent):
            with self.full.open("ab", buffering=0) as file:
                try:
                    while True:
                        file.write(b"\0" * 65536)
                except OSError:
                    return

    def free_disk(self):
        """Give the room back."""
        self.full.unlink(missing_ok=True)


def kill(pid, number):
    """Send a signal to a process that may have gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def kernels(daemon):
    """Return the pids of the real lab's kernels."""
    return [pid for pid in with_argument("ipykernel_launcher") if str(daemon.folder) in environment(pid)]


def servers(daemon):
    """Return the pids of the servers: those that were handed a socket."""
    found = (*with_argument("children/web.py"), *with_argument("launcher/lab.py"))
    return [pid for pid in found if str(daemon.folder) in environment(pid)]


def environment(pid):
    """Return the environment of a process as text."""
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


@pytest.fixture(params=[pytest.param("cgroup", marks=pytest.mark.root), "marks"])
def daemon(request):
    """A daemon whose state lies on a file system of its own, so that it can be filled."""
    wrap = WITHOUT_CGROUPS if request.param == "marks" and os.geteuid() == 0 else ()
    made = Jlabd("", wrap=wrap)
    state = made.folder / "state"
    state.mkdir(mode=0o700)
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", state], check=True)
    yield made
    made.stop()
    if os.geteuid() == 0:
        subprocess.run(["umount", state], check=True)
    made.remove()


@pytest.mark.timeout(SECONDS * 3 + 300)
@pytest.mark.jupyter
def test_torture(daemon, lab4_venv):
    """No orphan, no double, no lost lab that should run, a valid state file, constant descriptors."""
    print(f"JLABD_TORTURE_SEED={SEED}")
    torturer = Torturer(daemon, random.Random(SEED), lab4_venv)
    torturer.write()
    daemon.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        torturer.one()
    settle(torturer)
    check(torturer)
    assert daemon.stop() == 0
    assert servers(daemon) + kernels(daemon) == []
    assert with_argument(f"{daemon.folder.name}-child") == []


def settle(torturer):
    """Let the dust settle: room on the disk, a daemon that runs, the configuration in force."""
    daemon = torturer.daemon
    torturer.free_disk()
    until(daemon.answers, 30, "the daemon")
    torturer.write()
    daemon.ctl("reload", check=True)
    for name in torturer.configured:
        # A stop just before a kill -9 may or may not have been taken note of: say again what is wanted.
        daemon.ctl("stop" if name in torturer.stopped else "start", name, check=True)


def check(torturer):
    """Look whether all is as it should be."""
    daemon = torturer.daemon
    done = " ".join(torturer.done)
    until(lambda: len(daemon.document()["instances"]) == len(torturer.configured), 30, "what was removed to be gone")
    for entry in daemon.document()["instances"]:
        name = entry["name"]
        assert entry["state"] == ("stopped" if name in torturer.stopped else "ready"), (name, entry, done)
        path = daemon.folder / f"run/sockets/{name}.sock"
        expected = 503 if name in torturer.stopped else 302 if name == LAB else 200
        assert get(path, f"/{name}/")[0] == expected, (name, done)
    expected = {entry["pid"] for entry in daemon.document()["instances"] if entry["pid"]}
    running = {pid for pid in servers(daemon) if is_alive(pid)}
    assert {pid for pid in running if os.getsid(pid) == pid} == expected, done
    state = daemon.folder / "state/state.json"
    until(lambda: set(json.loads(state.read_text())["instances"]) == torturer.configured, 15, "the state file")
    assert len(open_descriptors(daemon.process.pid)) < 30 + 8 * len(torturer.configured), done
    folders = {path.name.rpartition(".")[0] for path in (daemon.folder / "run/labs").iterdir()}
    assert folders <= torturer.configured, "private folders were left behind"
