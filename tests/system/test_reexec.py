"""Re-execution: the daemon becomes the code on disk, in the same process, and nobody notices."""

import json
import os
import shutil
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rig.daemon import PROGRAMS, WITHOUT_CGROUPS
from rig.processes import open_descriptors
from rig.unix_http import get
from rig.waiting import until
from rig.web import web

import jlabd


def started_at(daemon):
    """Return when the daemon's present image was started."""
    return daemon.document()["started_at"]


@pytest.mark.parametrize("how", ["command", "signal", "marks"])
def test_same_process_same_labs(jlabd, how):
    """pid, labs, their sockets and the daemon's own descriptors are the same after as before."""
    wrap = WITHOUT_CGROUPS if how == "marks" and os.geteuid() == 0 else ()
    daemon = jlabd(web("a") + web("b", autostart="false"), wrap=wrap).start()
    before = daemon.wait_for("a", "ready")
    pid, started = daemon.process.pid, started_at(daemon)
    descriptors = len(open_descriptors(pid))
    if how == "signal":
        daemon.process.send_signal(signal.SIGUSR2)
    else:
        daemon.ctl("reexec", check=True)
    until(lambda: started_at(daemon) != started, 20, "the new image")
    after = daemon.wait_for("a", "ready")
    assert daemon.document()["pid"] == pid
    assert (after["pid"], after["since"], after["incarnation"]) == (before["pid"], before["since"], 1)
    until(lambda: len(open_descriptors(pid)) <= descriptors, 5, "descriptors to be as many as before")
    os.kill(after["pid"], signal.SIGKILL)
    again = until(lambda: daemon.instance("a")["restarts"] == 1 and daemon.wait_for("a", "ready"), 20)
    assert again["pid"] != after["pid"]
    events = daemon.ctl("events", "--json", check=True).stdout
    assert "was killed by signal 9" in events, "the parent is still told how its children end"


def test_requests_and_commands_wait(jlabd):
    """While the daemon is replaced neither a request to a lab, nor one to its stand-in, nor a command fails."""
    daemon = jlabd(web("a") + web("b", autostart="false")).start()
    daemon.wait_for("a", "ready")
    over, answers = threading.Event(), {"a": [], "b": [], "status": []}

    def ask(name):
        while not over.is_set():
            answers[name].append(get(daemon.folder / f"run/sockets/{name}.sock", f"/{name}/")[0])

    def ask_status():
        while not over.is_set():
            answers["status"].append(daemon.ctl("status", "a").returncode)

    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask, "a"), pool.submit(ask, "b"), pool.submit(ask_status)]
        for _ in range(3):
            daemon.ctl("reexec", check=True)
        over.set()
        for one in asking:
            one.result()
    assert {name: set(seen) for name, seen in answers.items()} == {"a": {200}, "b": {503}, "status": {0}}
    assert min(len(seen) for seen in answers.values()) > 3


def test_code_that_cannot_start_is_refused(jlabd, tmp_path):
    """If the code on disk is broken, the old goes on and says why."""
    package = Path(jlabd_package())
    copy = tmp_path / "code"
    shutil.copytree(package, copy / "jlabd", ignore=shutil.ignore_patterns("__pycache__"))
    daemon = jlabd(web("a"), env={"PYTHONPATH": str(copy)}).start()
    pid = daemon.wait_for("a", "ready")["pid"]
    started = started_at(daemon)
    with (copy / "jlabd/daemon/driver.py").open("a") as file:
        file.write("\nraise RuntimeError('half an upgrade')\n")
    done = daemon.ctl("reexec")
    assert done.returncode == 1
    assert "half an upgrade" in done.stderr
    assert (started_at(daemon), daemon.instance("a")["pid"]) == (started, pid)


def test_bad_configuration_is_refused_too(jlabd):
    """A configuration that the new image could not read stands in the way as well."""
    daemon = jlabd(web("a")).start()
    daemon.wait_for("a", "ready")
    daemon.write("[instance.a]\nnonsense = 1\n")
    done = daemon.ctl("reexec")
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    assert daemon.instance("a")["state"] == "ready"


def jlabd_package():
    """Return the folder of the package under test."""
    return Path(jlabd.__file__).parent


def test_events_go_on(jlabd):
    """`jlabctl events -f` and `logs -f` outlive a re-execution."""
    daemon = jlabd(web("a")).start()
    daemon.wait_for("a", "ready")
    program = [PROGRAMS / "jlabctl", "--socket", daemon.socket]
    with (
        subprocess.Popen([*program, "events", "-f", "--json"], stdout=subprocess.PIPE, text=True) as events,
        subprocess.Popen([*program, "logs", "a", "-f"], stdout=subprocess.PIPE, text=True) as logs,
    ):
        daemon.ctl("reexec", check=True)
        daemon.ctl("restart", "a", check=True)
        seen = (json.loads(line)["reason"] for line in events.stdout)
        assert next(reason for reason in seen if "restart requested" in reason)
        events.terminate()
        logs.terminate()
