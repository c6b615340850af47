"""jlabd and nginx together: labs come and go without a reload, and whatever happens to nginx is told to everybody."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from rig.daemon import daemons
from rig.nginx import Nginx
from rig.unix_http import get
from rig.waiting import until
from rig.web import web


@pytest.fixture(scope="module")
def nginx(nginx_binary):
    """One nginx for all."""
    server = Nginx(nginx_binary).prepare()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def daemon(nginx):
    """The daemon behind it."""
    with daemons() as make:
        made = make(web("a"), nginx=nginx.settings()).start()
        nginx.start()
        yield made


@pytest.fixture
def behind_nginx(daemon, nginx):
    """One lab behind a running nginx that is in line."""
    daemon.write(web("a"))
    daemon.ctl("reload", check=True)
    daemon.wait_for("a", "ready")
    until(lambda: daemon.document()["nginx"]["ok"], 30, "nginx to be in line")
    until(lambda: len(workers(nginx).split()) == 1, 10, "workers from before the last reload to end")
    return daemon


def workers(nginx):
    """Return the pids of nginx's workers: a reload brings new ones."""
    return Path(f"/proc/{nginx.process.pid}/task/{nginx.process.pid}/children").read_text()


def metric(daemon, name):
    """Return a number from /metrics."""
    text = get(daemon.folder / "status.sock", "/metrics")[1]
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")))


def test_labs_come_and_go_without_a_reload(behind_nginx, nginx):
    """Start, stop, restart, crash, a reload without a change and the daemon's own death leave nginx alone."""
    before, reloads = workers(nginx), metric(behind_nginx, "jlabd_nginx_reloads_total")
    generation, restarts = behind_nginx.document()["nginx"]["generation"], behind_nginx.instance("a")["restarts"]
    behind_nginx.ctl("stop", "a", check=True)
    behind_nginx.ctl("start", "a", check=True)
    behind_nginx.ctl("restart", "a", check=True)
    os.kill(behind_nginx.instance("a")["pid"], signal.SIGKILL)
    until(lambda: behind_nginx.instance("a")["restarts"] == restarts + 1, 20, "the crash to be seen")
    behind_nginx.wait_for("a", "ready")
    behind_nginx.ctl("reload", check=True)
    assert metric(behind_nginx, "jlabd_nginx_reloads_total") == reloads
    behind_nginx.kill()
    behind_nginx.start()
    until(lambda: behind_nginx.document()["nginx"]["generation"] == generation, 20, "the new daemon to have looked")
    assert behind_nginx.document()["nginx"]["ok"]
    assert metric(behind_nginx, "jlabd_nginx_reloads_total") == 0
    assert workers(nginx) == before


def test_many_reloads_at_once_are_one_for_nginx(behind_nginx, nginx):
    """Everybody who asks for a reload after an edit gets an answer, and nginx is told once."""
    reloads = metric(behind_nginx, "jlabd_nginx_reloads_total")
    behind_nginx.write(web("a") + web("b"))
    with ThreadPoolExecutor() as crowd:
        done = list(crowd.map(lambda _: behind_nginx.ctl("reload"), range(5)))
    assert {each.returncode for each in done} == {0}
    assert metric(behind_nginx, "jlabd_nginx_reloads_total") == reloads + 1
    assert requests.get(f"http://127.0.0.1:{nginx.port}/b/", timeout=20).status_code == 200


def test_an_nginx_that_was_killed_is_told_and_caught_up_with(behind_nginx, nginx):
    """`status`, /status, events and metrics say so within seconds; what changed meanwhile is there when it is back."""
    left = workers(nginx).split()
    nginx.process.kill()
    nginx.process.wait()
    for worker in left:  # as systemd does with what is left of a service
        os.kill(int(worker), signal.SIGKILL)
    until(lambda: not behind_nginx.document()["nginx"]["ok"], 15, "it to be noticed")
    assert metric(behind_nginx, "jlabd_nginx_ok") == 0
    told = behind_nginx.ctl("status")
    assert "nginx: nginx could not be told to load its configuration (is it running?)" in told.stdout + told.stderr
    behind_nginx.write(web("a") + web("b"))
    done = behind_nginx.ctl("reload")
    assert "is it running?" in done.stdout + done.stderr
    behind_nginx.wait_for("b", "ready")
    (nginx.folder / "nginx.pid").unlink()
    nginx.start()
    until(lambda: behind_nginx.document()["nginx"]["ok"], 15, "it to be seen")
    assert requests.get(f"http://127.0.0.1:{nginx.port}/b/", timeout=20).status_code == 200
    events = [json.loads(line) for line in behind_nginx.ctl("events", "--json", check=True).stdout.splitlines()]
    told = [event["reason"] for event in events if event["kind"] == "nginx"]
    assert told[-1] == "nginx is in line again"
    assert metric(behind_nginx, "jlabd_nginx_last_reload_successful") == 1
