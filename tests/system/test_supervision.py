"""Supervision of small real programs: who is started again when, and how quickly things are noticed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rig.daemon import PROGRAMS
from rig.processes import is_alive, open_descriptors
from rig.unix_http import get
from rig.waiting import until
from rig.web import CHILD, web


def test_crash_is_noticed_and_mended(jlabd):
    """A killed server is noticed within 50 ms and comes back as another process; requests meanwhile wait."""
    daemon = jlabd(web("a", restart='{ initial = "0s" }')).start()
    noticed = []
    for _ in range(5):
        pid = daemon.wait_for("a", "ready")["pid"]
        killed = datetime.now(UTC)
        os.kill(pid, signal.SIGKILL)
        status, body = get(daemon.folder / "run/sockets/a.sock", "/a/")
        assert status == 200
        assert int(body) != pid
        events = [json.loads(line) for line in daemon.ctl("events", "--json", check=True).stdout.splitlines()]
        moment = next(event["time"] for event in reversed(events) if event["state"] == "stopping")
        noticed.append((datetime.fromisoformat(moment) - killed).total_seconds())
    assert sorted(noticed)[2] < 0.05
    assert daemon.wait_for("a", "ready")["restarts"] == 5


def test_hung_server_is_restarted(jlabd):
    """A server that is stopped (SIGSTOP) accepts but never answers: health probes see it, and it is replaced."""
    config = web("a", health='{ interval = "200ms", timeout = "300ms", failures = 2 }', stop='{ timeout = "500ms" }')
    daemon = jlabd(config).start()
    pid = daemon.wait_for("a", "ready")["pid"]
    os.kill(pid, signal.SIGSTOP)
    until(lambda: daemon.instance("a")["state"] in {"unhealthy", "stopping"}, 10, "the hang to be seen")
    until(lambda: daemon.instance("a")["pid"] not in {pid, None}, 10, "another process")
    daemon.wait_for("a", "ready")
    assert not is_alive(pid)


def test_crash_loop_backs_off_and_gives_up(jlabd):
    """A program that always dies is tried again ever more slowly, then failed, and the socket tells visitors."""
    config = web("a", "die=3", restart='{ initial = "50ms", give_up_after = 4 }')
    daemon = jlabd(config).start()
    entry = daemon.wait_for("a", "failed", 20)
    assert entry["reason"] == "the server exited with status 3; given up after 4 failures in a row"
    assert entry["restarts"] == 3
    assert daemon.ctl("status").returncode == 3
    status, body = get(daemon.folder / "run/sockets/a.sock", "/a/")
    assert status == 503
    assert "exited with status 3" in body


def test_stop_during_backoff_is_immediate(jlabd):
    """Nobody waits for a backoff to end, and nothing is spawned afterwards."""
    daemon = jlabd(web("a", "die=3", restart='{ initial = "1h", max = "1h" }')).start()
    assert daemon.wait_for("a", "backoff")["next_restart_at"] is not None
    began = time.monotonic()
    daemon.ctl("stop", "a", check=True)
    assert time.monotonic() - began < 2
    assert daemon.instance("a")["next_restart_at"] is None


def test_ignored_term_is_killed_at_the_timeout_and_a_second_stop_at_once(jlabd):
    """stop.timeout is what a server may take; a second stop does not wait for it."""
    daemon = jlabd(web("a", "ignore-term", stop='{ timeout = "2s" }') + web("b", "ignore-term")).start()
    daemon.wait_for("a", "ready")
    daemon.wait_for("b", "ready")
    began = time.monotonic()
    daemon.ctl("stop", "a", check=True)
    assert 2 <= time.monotonic() - began < 4
    began = time.monotonic()
    daemon.ctl("stop", "b", "--no-wait", check=True)
    assert daemon.instance("b")["state"] == "stopping"
    daemon.ctl("stop", "b", check=True)
    assert time.monotonic() - began < 4


def test_concurrent_restarts_end_in_one_process(jlabd):
    """Twenty administrators restart one instance: all are told that it worked, and one process runs."""
    daemon = jlabd(web("a")).start()
    daemon.wait_for("a", "ready")
    results = []
    callers = [threading.Thread(target=lambda: results.append(daemon.ctl("restart", "a"))) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert [(done.returncode, done.stderr) for done in results if done.returncode] == []
    pid = daemon.wait_for("a", "ready")["pid"]
    running = subprocess.run(["pgrep", "-f", str(CHILD)], capture_output=True, text=True, check=False).stdout.split()
    mine = [int(each) for each in running if str(daemon.folder) in Path(f"/proc/{each}/environ").read_text()]
    assert mine == [pid]


def test_slow_stop_delays_nobody_and_stop_all_is_parallel(jlabd):
    """Three stops of 3 s take 3 s together, and another instance is restarted meanwhile."""
    slow = "".join(web(f"slow{number}", "hang-on-term") for number in range(3))
    daemon = jlabd(slow + web("quick")).start()
    for number in range(3):
        daemon.wait_for(f"slow{number}", "ready")
    daemon.wait_for("quick", "ready")
    daemon.ctl("stop", "slow0", "--no-wait", check=True)
    began = time.monotonic()
    daemon.ctl("restart", "quick", check=True)
    assert time.monotonic() - began < 2
    daemon.ctl("start", "slow0", check=True)
    began = time.monotonic()
    daemon.ctl("stop", "--all", check=True)
    assert time.monotonic() - began < 3 + 2


@pytest.mark.parametrize("wanted", ["{port}", "{socket}"])
def test_program_that_binds_by_itself(jlabd, wanted):
    """A program that knows nothing of inherited sockets is reached all the same."""
    program = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"]
    if wanted == "{socket}":
        code = (
            "import socketserver, http.server, sys\n"
            "class H(http.server.BaseHTTPRequestHandler):\n"
            "    def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(b'hello')\n"
            "    def address_string(self): return '-'\n"
            "socketserver.UnixStreamServer(sys.argv[1], H).serve_forever()"
        )
        program = [sys.executable, "-c", code, "{socket}"]
    config = f"[instance.a]\ncommand = {json.dumps(program)}\nroot_dir = '{{folder}}/home'\n"
    daemon = jlabd(config).start()
    daemon.wait_for("a", "ready")
    assert get(daemon.folder / "run/sockets/a.sock", "/")[0] == 200


def test_descriptors_stay_constant_over_50_lives(jlabd):
    """Nothing leaks: 50 starts and stops leave the daemon with the descriptors it had."""
    daemon = jlabd(web("a", autostart="false")).start()
    daemon.ctl("start", "a", check=True)
    daemon.ctl("stop", "a", check=True)
    before = open_descriptors(daemon.process.pid)
    for _ in range(50):
        daemon.ctl("start", "a", check=True)
        daemon.ctl("stop", "a", check=True)
    assert daemon.instance("a")["incarnation"] == 51
    until(lambda: len(open_descriptors(daemon.process.pid)) <= len(before), 5, "descriptors to be closed")


def test_term_during_start_ends_cleanly(jlabd):
    """A daemon that is told to end while labs start ends, and takes them with it."""
    daemon = jlabd("".join(web(f"a{number}") for number in range(10))).start(wait=False)
    until(lambda: "is starting" in daemon.said(), 10, "the first start")
    assert daemon.stop() == 0


def test_hup_during_shutdown_is_ignored(jlabd):
    """A reload that comes too late does not bring anything back."""
    daemon = jlabd(web("a", "hang-on-term")).start()
    daemon.wait_for("a", "ready")
    daemon.process.send_signal(signal.SIGTERM)
    until(lambda: "stopping" in daemon.said(), 5, "the end to begin")
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.stop() == 0
    assert "is starting: started with" in daemon.said()
    assert daemon.said().count("a is starting") == 1


def test_second_daemon_refuses_and_harms_nothing(jlabd):
    """Two daemons on one runtime folder: the second says so and leaves the first alone."""
    daemon = jlabd(web("a")).start()
    pid = daemon.wait_for("a", "ready")["pid"]
    second = subprocess.run(
        [PROGRAMS / "jlabd", "--config", daemon.path], capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 1
    assert f"Another jlabd (pid {daemon.process.pid}) already runs" in second.stderr
    assert daemon.instance("a")["pid"] == pid
    assert get(daemon.folder / "run/sockets/a.sock", "/a/")[0] == 200


def test_out_of_descriptors_is_said_and_survived(jlabd):
    """A daemon at its limit of descriptors says so, keeps answering, and goes on when there is room again."""
    daemon = jlabd("".join(web(f"a{number}", autostart="false") for number in range(8))).start()
    pid = daemon.process.pid
    room = len(open_descriptors(pid)) + 6
    subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={room}:"], check=True)
    daemon.ctl("start", "--all", "--no-wait")
    until(lambda: "descriptors" in daemon.said(), 20, "the shortage to be named")
    assert daemon.process.poll() is None
    subprocess.run(["prlimit", "--pid", str(pid), "--nofile=4096:"], check=True)
    for number in range(8):
        daemon.wait_for(f"a{number}", "ready", 60)


def test_who_has_no_descriptor_to_ask_with_restarts_nobody(jlabd):
    """A daemon without a free descriptor cannot probe: that is said, no server is blamed, and probing goes on later."""
    config = web("a", health='{ interval = "100ms", timeout = "300ms", failures = 1 }', stop='{ timeout = "100ms" }')
    daemon = jlabd(config).start()
    entry = daemon.wait_for("a", "ready")
    prlimit = ["prlimit", "--pid", str(daemon.process.pid)]
    subprocess.run([*prlimit, "--nofile=3:"], check=True)
    until(lambda: "jlabd cannot open a connection" in daemon.said(), 20, "the shortage to be named")
    subprocess.run([*prlimit, "--nofile=4096:"], check=True)
    os.kill(entry["pid"], signal.SIGSTOP)
    replaced = until(lambda: daemon.instance("a")["restarts"] and daemon.wait_for("a", "ready"), 20, "a restart")
    assert (replaced["restarts"], replaced["incarnation"]) == (1, entry["incarnation"] + 1)
    assert "no answer within 0.3 s" in daemon.ctl("events", check=True).stdout


def test_missing_nginx_concerns_no_lab(jlabd, tmp_path):
    """Without nginx the labs run, and status says what is missing; a reload goes on working."""
    missing = 'test_command = ["/no/such/nginx", "-t"]\nreload_command = ["/no/such/nginx"]'
    daemon = jlabd(web("a"), nginx=f'config_dir = "{tmp_path}/jlabd.d"\nserver_name = "x"\n{missing}').start()
    daemon.wait_for("a", "ready")
    document = until(lambda: not daemon.document()["nginx"]["ok"] and daemon.document(), 10, "the lack to be noticed")
    assert "/no/such/nginx" in document["nginx"]["error"]
    daemon.write(web("a") + web("b"))
    done = daemon.ctl("reload", check=True)
    assert "/no/such/nginx" in done.stderr
    daemon.wait_for("b", "ready")


def test_flood_and_garbage_in_the_log_hurt_nobody(jlabd):
    """A megabyte without a newline, bytes that are no text, and `logs | head`: the lab and the daemon go on."""
    code = (
        "import sys, runpy; out = sys.stdout.buffer\n"
        "out.write(b'x' * 1_000_000 + b'\\n\\xff\\xfe\\x00 no text\\nlast\\n'); out.flush()\n"
        f"sys.argv = ['web']; runpy.run_path({str(CHILD)!r}, run_name='__main__')"
    )
    command = json.dumps([sys.executable, "-c", code])
    daemon = jlabd(f"[instance.a]\ncommand = {command}\nroot_dir = '{{folder}}/home'\n").start()
    daemon.wait_for("a", "ready")
    program = [PROGRAMS / "jlabctl", "--socket", daemon.socket, "logs", "a", "-n", "1000"]
    whole = subprocess.run(program, capture_output=True, check=True).stdout
    assert whole.startswith(b"x" * 1_000_000 + b"\n\xff\xfe\x00 no text\nlast\n")
    short = subprocess.run(["sh", "-c", '"$@" -f | head -c 10', "sh", *program], capture_output=True, check=True)
    assert (short.stdout, short.stderr) == (b"x" * 10, b"")
    assert daemon.instance("a")["state"] == "ready"
