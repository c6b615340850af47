"""No orphans: whatever a lab's users start, in kernels and terminals, ends with the lab."""

import json
import os
import signal
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import websocket
from rig.browser import Browser
from rig.daemon import WITHOUT_CGROUPS, daemons
from rig.nginx import Nginx
from rig.processes import is_alive, with_argument
from rig.waiting import until

pytestmark = pytest.mark.jupyter

LAB = """
[instance.alice]
venv = "{venv}"
root_dir = "{{folder}}/home"
stop = {{ timeout = "8s" }}
restart = {{ initial = "100ms" }}
"""

HOLDS_THE_GIL = """
import ctypes, time
print("now", flush=True)
time.sleep(0.5)  # while the GIL is held not even this message gets out
held = ctypes.create_string_buffer(64)
for _ in range(2):  # the second time for ever
    ctypes.PyDLL(None).pthread_mutex_lock(held)
"""
IGNORES_TERM = """
import os, subprocess, sys
program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\\nwhile True: time.sleep(1)"
subprocess.Popen([sys.executable, "-c", program, "{mark}-ignores-term"])
"""
NEW_SESSION = """
import subprocess
subprocess.Popen(["sh", "-c", "while :; do sleep 1; done", "{mark}-new-session"], start_new_session=True)
"""
DOUBLE_FORK = """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sh", ["sh", "-c", "while :; do /bin/sleep 1; done", "{mark}-double-fork"], {{}})
    os._exit(0)
os.wait()
"""
FORKS_ON = """
import subprocess, sys
program = "import os, time\\nwhile True:\\n    if os.fork(): os._exit(0)\\n    os.setsid(); time.sleep(0.03)"
subprocess.Popen([sys.executable, "-c", program, "{mark}-forks-on"])
"""


@pytest.fixture(scope="module")
def labs(nginx_binary, lab4_venv):
    """A lab for each way of keeping process trees: (daemon, nginx) of all."""
    ways = {"cgroup": (), "marks": WITHOUT_CGROUPS} if os.geteuid() == 0 else {"marks": ()}
    servers = [Nginx(nginx_binary).prepare() for _ in ways]
    with daemons() as make:
        made = []
        for (way, wrap), nginx in zip(ways.items(), servers, strict=True):
            daemon = make(LAB.format(venv=lab4_venv), nginx=nginx.settings(), wrap=wrap).start()
            assert f"trees={way}" in daemon.said()
            nginx.start()
            made.append((daemon, nginx))
        yield made
    for nginx in servers:
        nginx.stop()


def side_by_side(work, labs):
    """Do the same with all labs at once: most of it is waiting."""
    with ThreadPoolExecutor(len(labs)) as pool:
        for one in [pool.submit(work, *lab) for lab in labs]:
            one.result()


def do_their_worst(daemon, nginx):
    """Let the users of a lab do so; return the needle of all command lines."""
    daemon.ctl("start", "alice", check=True)
    daemon.wait_for("alice", "ready")
    mark = daemon.folder.name
    browser = Browser(nginx.port, "/alice/")
    browser.follow_link(daemon.token("alice"))
    for code in (IGNORES_TERM, NEW_SESSION, DOUBLE_FORK, FORKS_ON):
        browser.execute(browser.start_kernel(), textwrap.dedent(code.format(mark=mark)))
    hold_the_gil(browser)
    terminal(browser, f"nohup sh -c 'while :; do sleep 1; done' {mark}-nohup >/dev/null 2>&1 &\n")
    terminal(browser, f"setsid sh -c 'while :; do sleep 1; done' {mark}-setsid &\n")
    kinds = ("ignores-term", "new-session", "double-fork", "forks-on", "nohup", "setsid")
    for kind in kinds:
        until(lambda kind=kind: with_argument(f"{mark}-{kind}"), 20, kind)
    return mark


def hold_the_gil(browser):
    """Leave a kernel in a C function that never comes back."""
    channel = browser.connect(browser.start_kernel())
    header = {"msg_id": "1", "username": "", "session": "1", "msg_type": "execute_request", "version": "5.3"}
    content = {"code": HOLDS_THE_GIL, "silent": False}
    channel.send(
        json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"})
    )
    until(lambda: json.loads(channel.recv())["msg_type"] == "stream", 20, "the kernel to begin")


def terminal(browser, text):
    """Type `text` into a new terminal."""
    name = browser.post("api/terminals").json()["name"]
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.session.cookies)
    address = f"ws://127.0.0.1:{browser.port}{browser.base_url}terminals/websocket/{name}"
    channel = websocket.create_connection(address, host=browser.host, origin=f"http://{browser.host}", cookie=cookies)
    channel.send(json.dumps(["stdin", text]))


def everything(daemon, mark):
    """Return the pids of all that was started, the lab and its kernels among them; a warm parent is no lab's."""
    parents = with_argument(f"{daemon.folder}/run/launcher/warm.py")
    return [pid for pid in with_argument(mark) if pid not in {daemon.process.pid, *parents}]


def test_stop_leaves_nothing(labs):
    """`stopped` is said when nothing is left, and that is true."""

    def stop(daemon, nginx):
        mark = do_their_worst(daemon, nginx)
        began = time.monotonic()
        daemon.ctl("stop", "alice", check=True)
        assert time.monotonic() - began < 8 + 3
        assert everything(daemon, mark) == []

    side_by_side(stop, labs)


def test_crash_leaves_nothing(labs):
    """After a crash of the server its tree ends before the next incarnation begins."""

    def crash(daemon, nginx):
        before = set(everything(daemon, do_their_worst(daemon, nginx)))
        entry = daemon.instance("alice")
        os.kill(entry["pid"], signal.SIGKILL)
        until(lambda: daemon.instance("alice")["incarnation"] > entry["incarnation"], 20, "the next incarnation")
        assert [pid for pid in before if is_alive(pid)] == []
        daemon.wait_for("alice", "ready")
        assert daemon.instance("alice")["restarts"] == entry["restarts"] + 1

    side_by_side(crash, labs)
