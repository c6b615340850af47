"""`make demo`, as its Makefile line runs it: real JupyterLab, real nginx, and nothing left when it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import requests
from rig.guide import Guide

GUIDE = Guide("../README.md")
pytestmark = pytest.mark.jupyter

PATIENCE_S = 90


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Demo:
    """One demo in a folder of its own."""

    def __init__(self, folder, port):
        self.folder = folder
        self.output = folder / "output.txt"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jlabd.demo"],
                cwd=folder,
                env={**os.environ, "DEMO_PORT": str(port)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self):
        return self.output.read_text()

    def links(self):
        """Wait for the login links, {name: link}."""
        pattern = re.compile(r"http://\S+/(\w+)/\?token=\w+")
        until(lambda: len(pattern.findall(self.said())) == 2 or self.process.poll() is not None)
        links = {match[1]: match[0] for match in pattern.finditer(self.said())}
        assert set(links) == {"alice", "bob"}, self.said()
        return links

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def processes(self, name=""):
        """Everything alive that has to do with this folder: by its command line or by where it is."""
        return [found for found in map(self._described, psutil.process_iter()) if found and name in found[1]]

    def _described(self, process):
        try:
            words = " ".join(process.cmdline())
            mine = str(self.folder) in words or process.cwd().startswith(str(self.folder))
            return (process.pid, words) if mine and process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.Error, OSError):
            return None


def until(condition, patience_s=PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def start_kernel(link):
    base, token = link.split("?token=")
    headers = {"Authorization": f"token {token}"}
    answer = requests.post(f"{base}api/kernels", json={}, headers=headers, timeout=PATIENCE_S)
    assert answer.status_code == 201, answer.text


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="jl", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def demo(folder):
    """A function that starts demos in `folder`; all are ended with the test."""
    started = []

    def start(port=None, where=folder):
        started.append(Demo(where, free_port() if port is None else port))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end()
    until(lambda: [one for one in started if one.processes()] == [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_links_log_in_and_nothing_is_left(demo, number):
    """Each printed link logs in, and however the demo is asked to end, no process stays, kernels included."""
    one = demo()
    for name, link in one.links().items():
        answer = requests.Session().get(link, timeout=PATIENCE_S)
        assert (answer.status_code, f"/{name}/lab" in answer.url) == (200, True)
        start_kernel(link)
    assert len(one.processes("ipykernel")) == 2
    assert one.end(number) == 0
    assert one.processes() == []
    assert not (one.folder / ".demo/run").exists()


@pytest.mark.parametrize("delay_s", [0.5, 1.0, 2.0])
def test_interrupted_start_leaves_nothing(demo, delay_s):
    """A demo that is asked to end while it starts leaves no process either."""
    one = demo()
    time.sleep(delay_s)
    one.end(signal.SIGINT)
    assert one.processes() == []


def test_killed_demo_takes_its_processes_along(demo):
    """Also `kill -9` of the demo ends daemon, labs and nginx, and the next demo starts as if nothing had been."""
    one = demo()
    start_kernel(one.links()["alice"])
    one.end(signal.SIGKILL)
    until(lambda: one.processes() == [])
    assert demo().links()


def test_next_demo_ends_what_a_massacre_left(demo):
    """When the daemon and nginx were killed too, the next demo finds their labs and workers, and ends them."""
    one = demo()
    start_kernel(one.links()["alice"])
    for name in ("/bin/jlabd ", "nginx: master"):
        os.kill(one.processes(name)[0][0], signal.SIGSTOP)  # so that it cannot end anything in good order
    one.end(signal.SIGKILL)
    for name in ("/bin/jlabd ", "nginx: master"):
        os.kill(one.processes(name)[0][0], signal.SIGKILL)
    left = {pid for pid, _ in one.processes()}
    assert left
    two = demo()
    two.links()
    assert left.isdisjoint(pid for pid, _ in two.processes())


def test_second_demo_is_refused_and_what_the_readme_shows_works(demo, folder):
    """A second demo says who is in the way, and the first one does not notice.

    What the README says to try works, line by line, and `jlabctl status` looks as shown there. As under systemd,
    `kill -9` of the daemon disturbs no lab, and the demo goes on.
    """
    one = demo()
    link = one.links()["bob"]
    two = subprocess.run([sys.executable, "-m", "jlabd.demo"], cwd=folder, capture_output=True, text=True, check=False)
    assert two.returncode == 1
    assert two.stderr.startswith(f"demo: A demo already runs in this folder (pid {one.process.pid}).")
    assert requests.get(link, timeout=PATIENCE_S).status_code == 200
    start_kernel(link)
    (folder / ".venv").symlink_to(sys.prefix)
    place, *lines = GUIDE.commands["demo"].splitlines()
    [killing] = [number for number, line in enumerate(lines) if line.startswith("kill -9")]

    said = [_run(one, place, line) for line in lines[:killing]]
    shown, real = GUIDE.outputs["demo"].splitlines(), said[0].splitlines()
    assert shown[0].split() == real[0].split()
    assert [_shape(line) for line in shown[1:]] == [_shape(line) for line in real[1:]]
    assert "was killed by signal 9 (SIGKILL)" in said[-1]

    before = {pid for name in ("launcher/lab.py", "ipykernel") for pid, _ in one.processes(name)}
    assert len(before) == 3
    for line in lines[killing:]:
        _run(one, place, line)
    assert "It is started again" in one.said()
    assert "bob  ready  taken over from an earlier jlabd" in _shell(one, f"{place}\n.venv/bin/jlabctl events").stdout
    assert requests.get(link, timeout=PATIENCE_S).status_code == 200
    assert {pid for name in ("launcher/lab.py", "ipykernel") for pid, _ in one.processes(name)} == before
    assert one.end() == 0
    assert one.processes() == []


def _run(one, place, line):
    """Give one line of the README to a shell in the demo's folder, once all is well again; return what it printed."""
    until(lambda: _shell(one, f"{place}\n.venv/bin/jlabctl status").returncode == 0)
    command = line.partition("#")[0]
    if "events" in line:
        until(lambda: "SIGKILL" in _shell(one, f"{place}\n{command}").stdout)
    if "kill -9" in line:  # a daemon that lived shorter than this is not started again
        [(daemon, _)] = one.processes("/bin/jlabd ")
        until(lambda: time.time() - psutil.Process(daemon).create_time() > 3.5)
    if "-f" in command:  # it would go on for ever
        command = f"timeout 3 {command}; [ $? = 124 ]"
    done = _shell(one, f"{place}\n{command}")
    assert (done.returncode, done.stderr) == (0, ""), line
    return done.stdout


def _shell(one, text):
    return subprocess.run(
        ["bash", "-c", text], cwd=one.folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def _shape(line):
    """Return a line of the table without what differs from run to run."""
    name, state, _, pid, _, kernels, cpu, memory, restarts, url, *reason = re.sub("min ", "min", line).split()
    assert (pid.isdigit(), kernels.isdigit(), restarts.isdigit()) == (True, True, True), line
    assert (cpu[-1] in "%-", memory[-1], reason[:2]) == (True, "M", ["ready", "after"]), line
    return name, state, re.sub(r":\d+/", "/", url)


def test_port_in_use_is_one_sentence(demo):
    """A port in use is said in one sentence that names the way out, with exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = demo(port=taken.getsockname()[1])
        assert one.process.wait(PATIENCE_S) == 1
    [sentence] = one.said().splitlines()
    assert re.match(r"demo: Port \d+ of 127.0.0.1 cannot be used \(.*\)\. Take another one: DEMO_PORT=", sentence)


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", "８０８０"])
def test_nonsense_port_is_refused(demo, port):
    """DEMO_PORT must be a port."""
    one = demo(port)
    assert one.process.wait(PATIENCE_S) == 1
    assert one.said().startswith("demo: DEMO_PORT is ")


def test_checkout_with_a_long_and_odd_path(demo, folder):
    """Where the path is too long for sockets, or not fit for nginx, a short folder is used, and removed at the end."""
    where = folder / "a folder with a $trange name" / ("long" * 20)
    where.mkdir(parents=True)
    one = demo(where=where)
    start_kernel(one.links()["alice"])
    short = (where / ".demo/run").resolve().parent
    assert short.stat().st_mode & 0o777 == 0o700
    assert one.end() == 0
    assert not short.exists()


def test_next_demo_keeps_notebooks_and_starts_what_was_stopped(demo, folder):
    """What somebody wrote in a lab is still there in the next demo, and a lab that was stopped is up again."""
    one = demo()
    one.links()
    notebook = folder / ".demo/home/alice/Welcome.ipynb"
    notebook.write_text("mine")
    socket_path = folder / ".demo/run/control.sock"
    jlabctl = Path(sys.prefix, "bin/jlabctl")
    subprocess.run([jlabctl, "--socket", socket_path, "stop", "bob"], check=True, timeout=PATIENCE_S)
    one.end()
    assert requests.get(demo().links()["bob"], timeout=PATIENCE_S).status_code == 200
    assert notebook.read_text() == "mine"
