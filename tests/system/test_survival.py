"""Labs survive their manager: whatever ends the daemon, the next one goes on with the same processes."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from rig.browser import Browser
from rig.daemon import WITHOUT_CGROUPS
from rig.processes import is_alive, with_argument
from rig.unix_http import get
from rig.waiting import until
from rig.web import web


@pytest.fixture(params=[pytest.param("cgroup", marks=pytest.mark.root), "marks"])
def wrap(request):
    """Both ways of keeping process trees."""
    return WITHOUT_CGROUPS if request.param == "marks" and os.geteuid() == 0 else ()


def kill_daemon(daemon):
    """Let the daemon die without a word."""
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()


def path_of(daemon, name):
    """Return the socket of an instance."""
    return daemon.folder / f"run/sockets/{name}.sock"


@pytest.mark.jupyter
def test_kernels_survive_kill_9(jlabd, nginx, lab4_venv, wrap):
    """After kill -9 of the daemon the lab has its pid, the kernel its variables, and the new daemon notices an exit."""
    config = f"[instance.alice]\nvenv = '{lab4_venv}'\nroot_dir = '{{folder}}/home'\n"
    daemon = jlabd(config, nginx=nginx.settings(), wrap=wrap).start()
    nginx.start()
    before = daemon.wait_for("alice", "ready")
    browser = Browser(nginx.port, "/alice/")
    token = daemon.token("alice")
    browser.follow_link(token)
    kernel = browser.start_kernel()
    browser.execute(kernel, "precious = 42")
    kill_daemon(daemon)
    assert browser.execute(kernel, "precious") == "42"
    daemon.start()
    after = daemon.wait_for("alice", "ready")
    assert (after["pid"], after["incarnation"], after["since"]) == (before["pid"], 1, before["since"])
    assert daemon.token("alice") == token
    assert browser.execute(kernel, "precious + 1") == "43"
    os.kill(after["pid"], signal.SIGKILL)
    until(lambda: daemon.instance("alice")["incarnation"] == 2, 10, "the exit to be noticed")
    daemon.wait_for("alice", "ready")
    assert browser.get("api").status_code == 200


def test_requests_wait_after_adoption(jlabd, wrap):
    """The new daemon tells of the adoption, and has the old listening socket: a restart then loses no request."""
    daemon = jlabd(web("a"), wrap=wrap).start()
    pid = daemon.wait_for("a", "ready")["pid"]
    kill_daemon(daemon)
    daemon.start()
    assert daemon.wait_for("a", "ready")["pid"] == pid
    lines = daemon.ctl("events", "--json", check=True).stdout.splitlines()
    assert "taken over from an earlier jlabd" in [json.loads(line)["reason"] for line in lines]
    socket_before = path_of(daemon, "a").stat().st_ino
    daemon.ctl("restart", "a", "--no-wait", check=True)
    assert get(path_of(daemon, "a"), "/a/")[0] == 200
    assert path_of(daemon, "a").stat().st_ino == socket_before
    assert int(get(path_of(daemon, "a"), "/a/")[1]) != pid


def test_died_meanwhile(jlabd, wrap):
    """A server that died while no daemon ran is started again, as the policy says; its remains are gone."""
    daemon = jlabd(web("a") + web("b", restart='{ policy = "never" }'), wrap=wrap).start()
    pids = [daemon.wait_for(name, "ready")["pid"] for name in "ab"]
    kill_daemon(daemon)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    daemon.start()
    assert daemon.wait_for("a", "ready")["incarnation"] == 2
    assert (
        daemon.wait_for("b", "failed")["reason"] == "the server ended while no jlabd ran; the restart policy is never"
    )


def test_reused_pid_is_a_stranger(jlabd, wrap):
    """A process that has the remembered pid but not its start time is not touched."""
    daemon = jlabd(web("a"), wrap=wrap).start()
    pid = daemon.wait_for("a", "ready")["pid"]
    state = daemon.folder / "state/state.json"
    until(lambda: f'"pid": {pid}' in state.read_text(), 5, "the state to be written")
    kill_daemon(daemon)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid), 5)
    with subprocess.Popen(["sleep", "100"]) as stranger:
        state.write_text(state.read_text().replace(f'"pid": {pid}', f'"pid": {stranger.pid}'))
        daemon.start()
        assert daemon.wait_for("a", "ready")["pid"] not in {pid, stranger.pid}
        daemon.ctl("stop", "a", check=True)
        assert stranger.poll() is None
        stranger.kill()


def test_damaged_state_kills_nobody(jlabd):
    """A state file that is empty, cut, of another version, garbage or gone: what runs is found and taken over."""
    daemon = jlabd(web("a") + web("b", autostart="false")).start()
    daemon.ctl("start", "b", check=True)
    pids = {name: daemon.wait_for(name, "ready")["pid"] for name in "ab"}
    state = daemon.folder / "state/state.json"
    for damage in ("", "{", '{"version": 99}', "\x00" * 5000, None):
        until(lambda: state.exists() and f'"pid": {pids["b"]}' in state.read_text(), 5, "the state to be written")
        kill_daemon(daemon)
        state.unlink() if damage is None else state.write_text(damage)
        daemon.start()
        assert {name: daemon.wait_for(name, "ready")["pid"] for name in "ab"} == pids, damage
        aside = list(state.parent.glob("state.json.bad-*"))
        assert len(aside) == (damage is not None), damage
        for path in aside:
            path.unlink()


def test_a_requested_stop_survives(jlabd):
    """What the operator stopped stays stopped; what he started by hand runs on."""
    daemon = jlabd(web("a") + web("b", autostart="false")).start()
    daemon.wait_for("a", "ready")
    daemon.ctl("start", "b", check=True)
    daemon.ctl("stop", "a", check=True)
    until(lambda: '"desired": "stopped"' in (daemon.folder / "state/state.json").read_text(), 5)
    for end in (kill_daemon, lambda each: each.stop()):
        end(daemon)
        daemon.start()
        assert daemon.wait_for("a", "stopped")["desired"] == "stopped"
        daemon.wait_for("b", "ready")
        assert get(path_of(daemon, "a"), "/a/")[0] == 503


def test_backoff_and_count_survive(jlabd):
    """The failures in a row, and the next attempt, are the same after the daemon's death."""
    daemon = jlabd(web("a", "die=3", restart='{ initial = "1h", max = "1h" }')).start()
    before = daemon.wait_for("a", "backoff")
    until(lambda: '"backoff"' in (daemon.folder / "state/state.json").read_text(), 5)
    kill_daemon(daemon)
    daemon.start()
    after = daemon.wait_for("a", "backoff")
    assert (after["incarnation"], after["reason"]) == (before["incarnation"], before["reason"])
    assert after["next_restart_at"] is not None


def test_configuration_that_changed_meanwhile(jlabd):
    """What is configured no more is ended; what changed is restarted; the rest is left alone."""
    daemon = jlabd(web("a") + web("b") + web("c")).start()
    pids = {name: daemon.wait_for(name, "ready")["pid"] for name in "abc"}
    state = daemon.folder / "state/state.json"
    until(lambda: all(f'"pid": {pid}' in state.read_text() for pid in pids.values()), 5)
    kill_daemon(daemon)
    daemon.write(web("a", stop='{ timeout = "3s" }') + web("b", env='{ X = "1" }'))
    daemon.start()
    assert daemon.wait_for("a", "ready")["pid"] == pids["a"]
    until(lambda: daemon.instance("b")["incarnation"] == 2, 10, "b to be restarted")
    until(lambda: not is_alive(pids["c"]), 10, "c to be ended")
    until(lambda: len(daemon.document()["instances"]) == 2, 10)


@pytest.mark.root
def test_found_in_another_cgroup(jlabd):
    """A daemon that is started from another login finds the labs where the last one kept them, and ends them there."""
    hierarchy = Path("/sys/fs/cgroup/unified")
    hierarchy = hierarchy if hierarchy.exists() else hierarchy.parent
    places = [hierarchy / f"jlt{os.getpid()}-{number}" for number in range(2)]
    daemon = jlabd(web("a", "children"))
    pids = []
    for place in places:
        place.mkdir()
        daemon.wrap = ("sh", "-c", f'echo $$ >{place}/cgroup.procs && exec "$@"', "sh")
        daemon.start()
        assert "trees=cgroup" in daemon.said()
        pids.append(daemon.wait_for("a", "ready")["pid"])
        if place == places[0]:
            kill_daemon(daemon)
    assert pids[0] == pids[1]
    daemon.ctl("stop", "a", check=True)
    assert servers(daemon, "a") == []
    assert with_argument(f"{daemon.folder.name}-child") == []
    daemon.stop()
    for place in places:
        below = sorted((path for path in place.rglob("*") if path.is_dir()), reverse=True)
        for folder in (*below, place):
            folder.rmdir()


def test_never_two(jlabd):
    """Killed again and again at random moments of a start, the daemon never has two processes of one instance."""
    daemon = jlabd(web("a") + web("b"))
    for number in range(8):
        daemon.start(wait=False)
        time.sleep(0.3 + number * 0.15)  # the moments are what is tested: before, while and after the labs start
        kill_daemon(daemon)
        for name in "ab":
            assert len(servers(daemon, name)) <= 1
    daemon.start()
    for name in "ab":
        daemon.wait_for(name, "ready")
        assert len(servers(daemon, name)) == 1


def servers(daemon, name):
    """Return the pids of the small web servers of `name`."""
    found = []
    for pid in with_argument("children/web.py"):
        try:
            with open(f"/proc/{pid}/environ") as file:
                environment = file.read()
        except OSError:
            continue
        if f"{daemon.folder}/run/labs/{name}." in environment:
            found.append(pid)
    return found


def test_folders_of_servers_that_died_meanwhile_are_swept(jlabd):
    """What was made for a server that did not outlive its daemon is removed, also while the next one has to wait."""
    daemon = jlabd(web("a", restart='{ initial = "1h", max = "1h" }')).start()
    pid = daemon.wait_for("a", "ready")["pid"]
    until(lambda: f'"pid": {pid}' in (daemon.folder / "state/state.json").read_text(), 5)
    kill_daemon(daemon)
    os.kill(pid, signal.SIGKILL)
    daemon.start()
    daemon.wait_for("a", "backoff")
    until(lambda: not list((daemon.folder / "run/labs").iterdir()), 10, "the folder to be removed")


def test_what_was_asked_for_last_is_remembered(jlabd):
    """A start that follows a stop at once is not forgotten when the daemon dies just then."""
    daemon = jlabd(web("a")).start()
    daemon.wait_for("a", "ready")
    daemon.ctl("stop", "a", check=True)
    daemon.ctl("start", "a", "--no-wait", check=True)
    state = daemon.folder / "state/state.json"
    until(lambda: '"desired": "running"' in state.read_text(), 0.15, "the request to be written")
    kill_daemon(daemon)
    daemon.start()
    daemon.wait_for("a", "ready")
