"""Instances that come, go and change at an inconvenient moment."""

import json
import signal
import socket
import time

import pytest
from rig.processes import is_alive
from rig.unix_http import get
from rig.users import account
from rig.waiting import until
from rig.web import CHILD, web


def free_port():
    """Return a port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def names(daemon):
    """Return the names of all instances."""
    return [entry["name"] for entry in daemon.document()["instances"]]


@pytest.mark.parametrize("state", ["failed", "backoff"])
def test_what_is_down_already_can_be_removed(jlabd, state):
    """An instance that failed, or waits for its next attempt, is gone with the reload that removes it."""
    policy = {"failed": "{ give_up_after = 1 }", "backoff": '{ initial = "1h", max = "1h" }'}[state]
    daemon = jlabd(web("a", "die=1", restart=policy) + web("b")).start()
    daemon.wait_for("a", state)
    daemon.write(web("b") + web("c"))
    daemon.ctl("reload", check=True)
    daemon.wait_for("c", "ready")
    assert names(daemon) == ["b", "c"]


def test_removing_does_not_hurry_what_is_being_stopped(jlabd):
    """A lab that was asked to stop keeps its time to do so when it is removed meanwhile, or the daemon ends."""
    daemon = jlabd(web("a", "hang-on-term") + web("b", "hang-on-term")).start()
    pids = [daemon.wait_for(name, "ready")["pid"] for name in "ab"]
    daemon.ctl("stop", "--no-wait", "a", "b", check=True)
    daemon.write(web("b", "hang-on-term"))
    daemon.ctl("reload", check=True)
    daemon.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert all(map(is_alive, pids))
    assert daemon.stop() == 0
    assert "jlabd has ended" in daemon.said()


def test_added_again_while_it_still_stops(jlabd):
    """An instance that returns before it has ended runs again with its new keys; with autostart off it stays down."""
    daemon = jlabd(web("a", "hang-on-term") + web("b", "hang-on-term")).start()
    daemon.wait_for("a", "ready")
    daemon.wait_for("b", "ready")
    daemon.write("")
    daemon.ctl("reload", check=True)
    assert names(daemon) == ["a", "b"]
    daemon.write(web("a", args='["now"]') + web("b", autostart="false"))
    daemon.ctl("reload", check=True)
    entry = daemon.wait_for("a", "ready")
    assert entry["incarnation"] == 2
    with open(f"/proc/{entry['pid']}/cmdline", encoding="utf-8") as file:
        assert file.read().endswith("\0now\0")
    daemon.wait_for("b", "stopped")
    assert get(daemon.folder / "run/sockets/b.sock", "/b/")[0] == 503


def test_another_address(jlabd):
    """A new `listen` is in force after a reload, whether the instance runs, is stopped, or waits."""
    daemon = jlabd(web("a") + web("b") + web("c", "die=1", restart='{ initial = "1h", max = "1h" }')).start()
    daemon.wait_for("a", "ready")
    daemon.wait_for("c", "backoff")
    daemon.ctl("stop", "b", check=True)
    ports = {name: free_port() for name in "abc"}
    daemon.write("".join(web(name, listen=port) for name, port in ports.items()))
    daemon.ctl("reload", check=True)
    daemon.wait_for("a", "ready")
    daemon.wait_for("c", "ready")
    for name, port in ports.items():
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            assert client.recv(12).split()[1] == (b"503" if name == "b" else b"200")
        assert not (daemon.folder / f"run/sockets/{name}.sock").exists()
    daemon.write("".join(web(name) for name in ports))
    daemon.ctl("reload", check=True)
    daemon.wait_for("a", "ready")
    assert get(daemon.folder / "run/sockets/a.sock", "/a/")[0] == 200
    assert get(daemon.folder / "run/sockets/b.sock", "/b/")[0] == 503


@pytest.mark.root
def test_another_user(jlabd):
    """A running instance that is given to somebody else is restarted as that user; nothing of the first is left."""
    with account() as alice, account() as bob:
        command = f"command = ['/usr/bin/python3', '-c', {json.dumps(CHILD.read_text())}]\nroot_dir = '/'\n"
        daemon = jlabd(f"[instance.a]\nuser = '{alice.pw_name}'\n{command}").start()
        before = daemon.wait_for("a", "ready")
        daemon.write(f"[instance.a]\nuser = '{bob.pw_name}'\n{command}")
        daemon.ctl("reload", check=True)
        until(lambda: daemon.instance("a")["incarnation"] == 2, 10)
        after = daemon.wait_for("a", "ready")
        with open(f"/proc/{after['pid']}/status", encoding="utf-8") as file:
            assert f"Uid:\t{bob.pw_uid}\t" in file.read()
        assert not is_alive(before["pid"])
        assert [folder.name for folder in (daemon.folder / "run/labs").iterdir()] == ["a.2"]
        daemon.stop()


SLOW_TEST = '''
test_command = ["sh", "-c", """
if [ -e {folder}/slow ]; then touch {folder}/testing; while :; do sleep 0.05; done; fi
exec "$@" """, "sh", '''


def test_a_reload_that_is_under_way_starts_nothing_after_the_end(jlabd, nginx):
    """SIGTERM while nginx still tests the new configuration: nothing of that is started, and everything ends."""
    settings = nginx.settings().replace("\ntest_command = [", SLOW_TEST)
    daemon = jlabd(web("a", "hang-on-term"), nginx=settings).start()
    nginx.start()
    daemon.wait_for("a", "ready")
    until(lambda: daemon.document()["nginx"]["generation"] == 1, 30)
    (daemon.folder / "slow").touch()
    daemon.write(web("a", "other") + web("b"))
    daemon.process.send_signal(signal.SIGHUP)
    until((daemon.folder / "testing").exists, 10, "nginx to be tested")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.stop(20) == 0
    assert "b is starting" not in daemon.said()
