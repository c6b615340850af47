"""Users and programs that mean harm, or are merely unlucky: what they can do to their own lab, and to nobody else."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest
from rig.daemon import WITHOUT_CGROUPS
from rig.processes import is_alive
from rig.unix_http import Connection, get
from rig.waiting import until
from rig.web import web

TRACER = """
import ctypes, sys, time
PTRACE_SEIZE = 0x4206
assert ctypes.CDLL(None).ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) == 0
print("traces", flush=True)
time.sleep(600)
"""


@pytest.fixture(params=[pytest.param("cgroup", marks=pytest.mark.root), "marks"])
def wrap(request):
    """Both ways of keeping process trees."""
    return WITHOUT_CGROUPS if request.param == "marks" and os.geteuid() == 0 else ()


@contextlib.contextmanager
def tracing(pid):
    """Let another process trace `pid`, and never look at what becomes of it."""
    tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(pid)], stdout=subprocess.PIPE)
    try:
        if tracer.stdout.readline() != b"traces\n":
            pytest.skip("NO TRACING HERE: the system forbids it (Yama)")
        yield
    finally:
        tracer.kill()
        tracer.communicate()


def zombies_of(parent):
    """Return the dead children that `parent` has not buried."""
    listed = subprocess.run(["ps", "--ppid", str(parent), "-o", "stat="], capture_output=True, text=True, check=False)
    return [stat for stat in listed.stdout.split() if stat.startswith("Z")]


def test_a_traced_server_that_dies_holds_nobody_up(jlabd, wrap):
    """The end of a server whose tracer does not look is noticed all the same, and the daemon goes on."""
    daemon = jlabd(web("a"), wrap=wrap).start()
    pid = daemon.wait_for("a", "ready")["pid"]
    with tracing(pid):
        os.kill(pid, signal.SIGKILL)
        until(lambda: daemon.ctl("status", timeout=5).returncode in {0, 3}, 5)
        until(lambda: daemon.instance("a")["incarnation"] == 2, 10, "the exit to be noticed")
        daemon.wait_for("a", "ready")
        daemon.ctl("stop", "a", check=True, timeout=10)
        assert not is_alive(pid)
    until(lambda: not zombies_of(daemon.process.pid), 5, "the dead to be buried")


def test_a_daemon_whose_log_cannot_be_written_goes_on(jlabd):
    """A closed terminal or a full disk behind the daemon's stderr changes nothing of what it does."""
    one_line = ("bash", "-c", 'exec "$@" 2> >(exec head -n 1)', "bash")
    daemon = jlabd(web("a"), wrap=one_line).start()
    daemon.wait_for("a", "ready")
    daemon.ctl("restart", "a", check=True, timeout=20)
    os.kill(daemon.instance("a")["pid"], signal.SIGKILL)
    until(lambda: daemon.instance("a")["incarnation"] == 3, 10, "the exit to be noticed")
    daemon.wait_for("a", "ready")
    assert daemon.stop() == 0


@pytest.mark.root
def test_nobody_else_can_lock_the_daemon_out(jlabd):
    """An ordinary user can neither open nor hold the lock that a daemon needs to start."""
    daemon = jlabd(web("a"))
    (daemon.folder / "run").mkdir()
    (daemon.folder / "run/lock").touch(0o644)  # as an earlier version made it
    daemon.start()
    hold = f"import fcntl; fcntl.flock(open({str(daemon.folder / 'run/lock')!r}), fcntl.LOCK_SH); print('held')"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", hold],
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionError" in done.stderr


STOPPER = """
import os, pathlib, signal, sys
daemon, folder = sys.argv[1], sys.argv[2].encode()
while os.path.exists(f"/proc/{daemon}"):
    for children in pathlib.Path(f"/proc/{daemon}/task").glob("*/children"):
        try:
            for pid in children.read_text().split():
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"-c\\0" in words and folder in words and b"rm -rf" in words:
                    os.kill(int(pid), signal.SIGSTOP)
                    sys.exit()
        except OSError:
            continue
"""


def stop_the_clearing_away(daemon):
    """Stop the process that empties a private folder, and see that nobody has to wait for it."""
    daemon.wait_for("a", "ready")
    folder = daemon.folder / "run/labs/a.1"
    for number in range(5_000):  # so that emptying takes a while
        (folder / str(number)).touch()
    stopper = subprocess.Popen([sys.executable, "-c", STOPPER, str(daemon.process.pid), folder])
    daemon.ctl("stop", "a", check=True, timeout=20)
    assert stopper.wait(5) == 0
    assert folder.exists()
    daemon.ctl("start", "a", check=True, timeout=20)
    assert daemon.stop() == 0
    daemon.start()
    until(lambda: {each.name for each in folder.parent.iterdir()} == {"a.3", "b.2"}, 20, "what was left to be swept")


def test_who_stops_the_clearing_away_delays_nobody_for_long(jlabd):
    """A user who stops the process that empties her private folder neither keeps her lab stopping nor the daemon.

    Both ways of keeping process trees, side by side: most of this is waiting.
    """
    ways = [(), WITHOUT_CGROUPS] if os.geteuid() == 0 else [()]
    running = [jlabd(web("a") + web("b"), wrap=way).start() for way in ways]
    with ThreadPoolExecutor(len(running)) as users:
        list(users.map(stop_the_clearing_away, running))


def test_sockets_that_were_removed_come_back(jlabd):
    """An instance whose socket somebody has deleted is found to be unreachable, restarted, and reachable again."""
    health = '{ interval = "200ms", timeout = "1s", failures = 2 }'
    daemon = jlabd(web("a", health=health) + web("b", autostart="false")).start()
    daemon.wait_for("a", "ready")
    shutil.rmtree(daemon.folder / "run/sockets")
    until(lambda: daemon.instance("a")["incarnation"] == 2, 20, "a to be restarted")
    daemon.wait_for("a", "ready")
    assert get(daemon.folder / "run/sockets/a.sock", "/a/")[0] == 200
    daemon.ctl("start", "b", check=True)
    assert get(daemon.folder / "run/sockets/b.sock", "/b/")[0] == 200


def post(daemon, path, body):
    """Ask the control socket for something; return status and answer."""
    connection = Connection(daemon.socket, 60)
    connection.request("POST", path, json.dumps(body))
    answer = connection.getresponse()
    try:
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_passwords_changed_at_the_same_time_are_all_kept(jlabd):
    """Many who change their passwords at once do not undo each other's change."""
    names = [f"lab{number}" for number in range(8)]
    daemon = jlabd("".join(web(name, autostart="false") for name in names)).start()
    hashes = {name: f"sha1:{number:012x}:{number:040x}" for number, name in enumerate(names)}
    with ThreadPoolExecutor(len(names)) as people:
        bodies = [{"name": name, "password_hash": hashed} for name, hashed in hashes.items()]
        answers = list(people.map(lambda body: post(daemon, "/passwd", body), bodies))
    assert {status for status, _ in answers} == {200}, answers
    written = tomllib.loads(daemon.path.read_text())["instance"]
    assert {name: written[name]["password_hash"] for name in names} == hashes


def test_a_signal_without_a_name(jlabd):
    """A real-time signal reaches the server like any other."""
    daemon = jlabd(web("a")).start()
    daemon.wait_for("a", "ready")
    daemon.ctl("signal", "a", "40", check=True)
    until(lambda: daemon.instance("a")["incarnation"] == 2, 10, "the server to end by it")
    assert "signal 40 sent by" in daemon.ctl("events").stdout


@pytest.mark.root
def test_a_directory_service_that_hangs_concerns_its_users_only(jlabd, tmp_path):
    """While the look-up of one account never ends, everybody else's labs start, and the daemon ends when asked."""
    (tmp_path / "sitecustomize.py").write_text(
        "import pwd, time\n"
        "real = pwd.getpwnam\n"
        "pwd.getpwnam = lambda name: time.sleep(3600) if name == 'nobody' else real(name)\n"
    )
    lost = [
        f"[instance.n{n}]\nuser = 'nobody'\ncommand = ['/bin/true']\nready = {{ timeout = '1s' }}\n" for n in range(12)
    ]
    config = "".join(lost) + web("good", autostart="false")
    daemon = jlabd(config, env={"PYTHONPATH": str(tmp_path)}).start()
    until(lambda: daemon.instance("n0")["incarnation"] > 1, 10, "the start to be given up")
    daemon.ctl("start", "good", check=True, timeout=10)
    daemon.ctl("reload", check=True, timeout=10)
    threads = len(os.listdir(f"/proc/{daemon.process.pid}/task"))
    assert threads < 5, "each attempt makes a thread of its own"
    assert daemon.stop(10) == 0


def test_nonsense_on_the_sockets_does_not_fill_the_log(jlabd):
    """Requests that are no HTTP are refused without a word in the daemon's log."""
    daemon = jlabd("").start()
    before = daemon.said()
    for path in (daemon.socket, daemon.folder / "status.sock"):
        for nonsense in (b"\x16\x03\x01\x00\n\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n"):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(str(path))
                client.sendall(nonsense)
                assert b" 400 " in client.recv(100)
    assert daemon.said() == before


@pytest.mark.root
def test_a_full_disk_is_said_and_survived(jlabd):
    """With no room left for anything, an instance says so, the commands work, and room brings it back."""
    daemon = jlabd(web("a"))
    run = daemon.folder / "run"
    run.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", run], check=True)
    try:
        daemon.start().wait_for("a", "ready")
        daemon.ctl("stop", "a", check=True)
        with contextlib.suppress(OSError), (run / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert "No space left on device" in daemon.ctl("start", "a", "--timeout", "10").stderr
        assert daemon.ctl("stop", "a").returncode == 0
        (run / "filler").unlink()
        daemon.ctl("start", "a", check=True)
        assert daemon.stop() == 0
    finally:
        subprocess.run(["umount", "--lazy", run], check=True)
