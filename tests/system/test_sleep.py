"""Labs that sleep when nobody needs them and wake at a visit: real labs of both versions behind nginx.

One daemon for all. Its labs start on demand, and sleep after STOP_AFTER_S as soon as a test wants that: until then it
takes the time that it needs.
"""

import json
import os
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from rig.browser import Browser, run_cell
from rig.daemon import daemons
from rig.nginx import Nginx
from rig.processes import is_alive
from rig.waiting import until

pytestmark = pytest.mark.jupyter

STOP_AFTER_S = 3
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}
SCRIPT = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Accept": "*/*"}
LAB = """
[instance.{name}]
venv = "{venv}"
root_dir = "{{folder}}/home"
on_demand = true
idle = {{ stop_after = "{stop_after}s", cull_kernels_after = "{cull_after}s" }}
stop = {{ timeout = "{stop_timeout}s" }}
"""


class Labs:
    """The sleepy labs `names`, and how one comes to them."""

    def __init__(self, daemon, nginx, venvs):
        self.daemon, self.nginx, self.venvs, self.names = daemon, nginx, venvs, list(venvs)
        self.write()

    def write(self, stop_after=0, cull_after=6, stop_timeout=8):
        """Configure all labs."""
        keys = {"stop_after": stop_after, "cull_after": cull_after, "stop_timeout": stop_timeout}
        self.daemon.write("".join(LAB.format(name=name, venv=venv, **keys) for name, venv in self.venvs.items()))

    def configure(self, **keys):
        """Configure all labs, and have that take effect."""
        self.write(**keys)
        self.daemon.ctl("reload", check=True)

    def ask(self, name, path="lab", headers=SCRIPT, method="GET"):
        """Ask through nginx; a lab that sleeps is not waited for."""
        url = f"http://127.0.0.1:{self.nginx.port}/{name}/{path}"
        return requests.request(method, url, headers=headers, timeout=60, allow_redirects=False)

    def all(self, state, timeout_s=60):
        """Return the labs' entries once all are in `state`."""
        return [self.daemon.wait_for(name, state, timeout_s) for name in self.names]

    def wake(self, *names):
        """Open labs, and log in once they are there."""
        browsers = {name: Browser(self.nginx.port, f"/{name}/") for name in names}
        for name in names:
            self.ask(name, headers=NAVIGATION)
        for name, browser in browsers.items():
            self.daemon.wait_for(name, "ready")
            browser.follow_link(self.daemon.token(name))
        return list(browsers.values())

    def events(self, name):
        """Return the events of one lab."""
        lines = self.daemon.ctl("events", "--json", check=True).stdout.splitlines()
        return [event for event in map(json.loads, lines) if event["instance"] == name]


@pytest.fixture(scope="module")
def labs(nginx_binary, lab4_venv, lab3_venv):
    """Two labs that nobody has opened yet: JupyterLab 4 and 3.6."""
    nginx = Nginx(nginx_binary).prepare()
    with daemons() as make:
        made = Labs(make("", nginx=nginx.settings("127.0.0.1")), nginx, {"ann": lab4_venv, "old": lab3_venv})
        made.daemon.start()
        nginx.start()
        until(lambda: made.daemon.document()["nginx"]["generation"] == 1, 30, "nginx to be in line")
        yield made
    nginx.stop()


def busy(browser, kernel, code):
    """Have a kernel run `code`, and go away while it does."""
    channel = browser.connect(kernel)
    run_cell(channel, "1")
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": "s", "username": ""}
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    channel.send(json.dumps(message))

    def computes():
        """Whether the kernel has begun with this; with what the server asks it by itself it is busy, too."""
        answer = json.loads(channel.recv())
        ours = answer["parent_header"].get("msg_id") == header["msg_id"]
        return ours and answer["content"].get("execution_state") == "busy"

    until(computes, 30, "the kernel to be busy")
    channel.close()


def test_only_a_visit_wakes(labs):
    """Who sleeps is not woken by scripts, uploads, images or a page fetched in advance; a visit wakes, and is timed."""
    labs.all("idle")
    in_advance = {**NAVIGATION, "Sec-Purpose": "prefetch"}
    for name in labs.names:
        polls = [labs.ask(name, path) for path in ("api/status", "api/kernels", "lab")]
        polls += [labs.ask(name, "api/contents/x", method=method) for method in ("PUT", "POST", "HEAD")]
        polls += [labs.ask(name, headers=in_advance), labs.ask(name, headers={**SCRIPT, "X-Jlabd-Progress": "1"})]
        assert {(answer.status_code, "Retry-After" in answer.headers) for answer in polls} == {(503, True)}
        assert polls[0].json()["state"] == "idle"
        assert "asleep: starts at the first visit" in polls[0].text
        entry = labs.daemon.instance(name)
        assert (entry["state"], entry["incarnation"], entry["pid"]) == ("idle", 0, None)
    assert labs.daemon.ctl("status").returncode == 0, "who sleeps is as desired"
    labs.wake(*labs.names)
    for name in labs.names:
        ready = next(event for event in labs.events(name) if event["state"] == "ready")
        assert 0 < ready["click_to_ready_s"] < 30
        assert f"opened {ready['click_to_ready_s']:.1f} s after the first visit" in ready["reason"]
    assert "after the first visit" in labs.daemon.ctl("events", check=True).stdout


def test_a_silent_kernel_keeps_it_awake_and_then_it_sleeps_announced(labs):
    """Nobody is there and nothing is printed, but a kernel computes: it is not culled, as an idle one is."""
    go_on = labs.daemon.folder / "home/go-on"
    for browser in labs.wake(*labs.names):
        browser.execute(browser.start_kernel(), "1")
        wait = f"import os, time\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.05)"
        busy(browser, browser.start_kernel(), wait)
    pids = [entry["pid"] for entry in labs.all("ready")]
    labs.configure(stop_after=STOP_AFTER_S)
    began = {name: len(labs.events(name)) for name in labs.names}
    time.sleep(1.5 * STOP_AFTER_S)
    assert [entry["pid"] for entry in labs.all("ready")] == pids
    assert all(len(labs.events(name)) == count for name, count in began.items()), "sleep was announced"
    for name in labs.names:
        until(lambda name=name: labs.daemon.instance(name)["kernels"] == 1, 10, "the idle kernel to be culled")
    done = time.monotonic()
    go_on.touch()
    labs.all("idle")
    assert time.monotonic() - done >= STOP_AFTER_S, "it slept too early"
    assert not any(map(is_alive, pids))
    for name, count in began.items():
        warning, stopping, idle = labs.events(name)[count:]
        assert (warning["kind"], warning["state"]) == ("warning", None)
        assert warning["reason"].startswith("goes to sleep in ")
        assert (stopping["state"], idle["state"]) == ("stopping", "idle")
        assert idle["reason"] == f"asleep: no activity for {STOP_AFTER_S} s"
        assert labs.daemon.instance(name)["restarts"] == 0
    answer = labs.ask(labs.names[0], "api/status")
    assert (answer.status_code, answer.json()["reason"]) == (503, f"asleep: no activity for {STOP_AFTER_S} s")


def test_a_visit_while_it_goes_to_sleep_and_a_daemon_that_dies(labs):
    """Who comes while a lab is on its way down gets in; the next daemon announces sleep anew before it comes."""
    name = "ann"
    labs.configure(cull_after=0)
    (browser,) = labs.wake(name)
    before = labs.daemon.instance(name)
    kernel = browser.start_kernel()
    channel = browser.connect(kernel)
    kernel_pid = int(run_cell(channel, "import os; os.getpid()"))
    os.kill(kernel_pid, signal.SIGSTOP)  # it holds up the server's end
    channel.close()
    labs.configure(cull_after=0, stop_after=STOP_AFTER_S, stop_timeout=3)
    labs.daemon.wait_for(name, "stopping", 30)
    with ThreadPoolExecutor() as pool:
        visit = pool.submit(labs.ask, name, "lab", NAVIGATION)
        woken = labs.daemon.wait_for(name, "ready", 60)
        # A warm lab may be there before there is a page to show.
        assert visit.result().is_redirect or "woken by a visit" in visit.result().text
    assert woken["incarnation"] == before["incarnation"] + 1
    assert not is_alive(kernel_pid)
    until(lambda: labs.daemon.instance(name)["reason"].startswith("goes to sleep in"), 30, "the announcement")
    labs.daemon.kill()
    labs.daemon.start()
    labs.daemon.wait_for(name, "idle", 30)
    kinds = [(event["kind"], event["state"]) for event in labs.events(name)]
    assert kinds == [("state", "ready"), ("warning", None), ("state", "stopping"), ("state", "idle")]


def test_sleep_survives_the_daemon(labs):
    """A daemon that dies finds who sleeps asleep; scripts wake nobody, a visit does."""
    before = labs.all("idle")
    labs.configure()
    labs.daemon.kill()
    labs.daemon.start()
    for name in labs.names:
        assert labs.ask(name, "api/status").status_code == 503
    assert [(entry["incarnation"], entry["reason"]) for entry in labs.all("idle")] == [
        (entry["incarnation"], entry["reason"]) for entry in before
    ]
    labs.wake("ann")
    assert labs.daemon.instance("ann")["incarnation"] == before[0]["incarnation"] + 1
