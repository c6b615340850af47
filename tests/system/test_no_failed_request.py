"""No request fails, whatever happens to labs, daemon or nginx: it waits, and the lab answers.

One daemon, one nginx and two labs for all: a JupyterLab on the shared host, a small server on a host of its own.
"""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from rig.browser import Browser, run_cell
from rig.daemon import daemons
from rig.load import Ask, Load
from rig.nginx import Nginx
from rig.waiting import until
from rig.web import web

pytestmark = pytest.mark.jupyter

OWN_HOST = "bob.example.com"


class Place:
    """The daemon and nginx, and who asks them."""

    def __init__(self, daemon, nginx, venv):
        self.daemon = daemon
        self.nginx = nginx
        self.venv = venv
        self.folder = daemon.folder

    def write(self, *, alice="", bob="", more=""):
        """Configure the two labs, with more TOML for each, and perhaps another one."""
        lab = f"[instance.alice]\nvenv = '{self.venv}'\nroot_dir = '{{folder}}/home'\n"
        self.daemon.write(lab + f"{alice}\n" + web("bob", "graceful", server_name=f'"{OWN_HOST}"') + f"{bob}\n" + more)

    def begin(self):
        """Start everything, and open a kernel's websocket."""
        (self.folder / "home/note.txt").write_text("note")
        self.daemon.start()
        self.nginx.start()
        self.ready()
        self.token = self.daemon.token("alice")
        self.browser = Browser(self.nginx.port, "/alice/")
        self.browser.follow_link(self.token)

    def ready(self):
        """Wait for both labs."""
        return [self.daemon.wait_for(name, "ready") for name in ("alice", "bob")]

    def load(self):
        """GET and POST to both labs at once."""
        port, token = self.nginx.port, {"Authorization": f"token {self.token}"}
        return Load(
            Ask(port, "127.0.0.1", "GET", "/alice/api"),
            Ask(port, "127.0.0.1", "GET", "/alice/api/contents/note.txt", token),
            Ask(port, "127.0.0.1", "POST", "/alice/api/contents/note.txt/checkpoints", token, b""),
            Ask(port, OWN_HOST, "GET", "/"),
            Ask(port, OWN_HOST, "POST", "/", body=b"x" * 3000),
        )

    def generation(self):
        """Return the generation that nginx reads."""
        return (self.nginx.folder / "jlabd.d/live").readlink().name


@pytest.fixture(scope="module")
def place(nginx_binary, lab4_venv):
    """Where all of this happens."""
    nginx = Nginx(nginx_binary).prepare()
    with daemons() as make:
        daemon = make("", nginx=nginx.settings("127.0.0.1"))
        made = Place(daemon, nginx, lab4_venv)
        made.write()
        made.begin()
        yield made
    nginx.stop()


@pytest.fixture
def channel(place):
    """The websocket of a kernel in which something precious is, open all the time."""
    place.ready()
    kernel = place.browser.start_kernel()
    channel = place.browser.connect(kernel)
    run_cell(channel, "precious = 42")
    yield channel
    channel.close()
    place.browser.session.delete(place.browser.url(f"api/kernels/{kernel}"))


def report(answers):
    """Return the answers as text, the first few."""
    return f"{len(answers)}:\n" + "\n".join(map(str, answers[:10]))


def test_daemon_death(place, channel):
    """While no daemon runs and when the next one comes, labs answer; websocket and kernel stay."""
    before = place.ready()
    with place.load() as load:
        place.daemon.kill()
        load.wait_for_answers()
        assert run_cell(channel, "precious") == "42"
        place.daemon.start()
        after = place.ready()
    assert not load.failures(), report(load.failures())
    assert [entry["pid"] for entry in after] == [entry["pid"] for entry in before]
    assert run_cell(channel, "precious") == "42"


def test_reexec(place, channel):
    """A re-execution is noticed by nobody."""
    before = place.ready()
    with place.load() as load:
        place.daemon.ctl("reexec", check=True)
        load.wait_for_answers()
        place.daemon.ctl("reexec", check=True)
        after = place.ready()
    assert not load.failures(), report(load.failures())
    assert [entry["pid"] for entry in after] == [entry["pid"] for entry in before]
    assert run_cell(channel, "precious") == "42"


def test_reload_of_what_does_not_concern_the_lab(place, channel):
    """A reload without a change, and those that make nginx reload, cut neither request nor websocket."""
    before, generation = place.ready(), place.generation()
    with place.load() as load:
        place.daemon.ctl("reload", check=True)
        assert place.generation() == generation
        place.write(more=web("carol"))
        place.daemon.ctl("reload", check=True)
        load.wait_for_answers()
        place.write()
        place.daemon.ctl("reload", check=True)
        assert place.generation() != generation
        after = place.ready()
    assert not load.failures(), report(load.failures())
    assert [entry["pid"] for entry in after] == [entry["pid"] for entry in before]
    assert run_cell(channel, "precious") == "42"


def test_restart(place):
    """While both labs restart, as asked and because their configuration changed, every request waits for them."""
    before = place.ready()
    with place.load() as load:
        place.daemon.ctl("restart", "alice", "bob", check=True)
        load.wait_for_answers()
        place.write(alice='env = { X = "1" }', bob='env = { X = "1" }')
        place.daemon.ctl("reload", check=True)
        after = place.ready()
    assert not load.failures(), report(load.failures())
    assert [entry["incarnation"] - 2 for entry in after] == [entry["incarnation"] for entry in before]
    assert 1 < load.longest_s() < 12, "nobody had to wait, or a server did not end by itself"


def test_crash(place):
    """While both labs are killed, everything waits, but for the POST that a server had taken and cannot answer."""
    before = place.ready()
    with place.load() as load:
        for entry in before:
            os.kill(entry["pid"], signal.SIGKILL)
        for entry in before:
            until(lambda was=entry: place.daemon.instance(was["name"])["restarts"] > was["restarts"], 20, "a restart")
        after = place.ready()
    lost = [answer for answer in load.failures() if answer.ask.method == "POST" and answer.status == 502]
    assert len(lost) == len(load.failures()), report(load.failures())
    assert len(lost) <= 2, report(lost)
    assert not {entry["pid"] for entry in after} & {entry["pid"] for entry in before}


def test_crash_over_an_unanswered_request(place):
    """Of the requests that a killed server had taken, GET and HEAD are answered by the next one; a POST is told so."""
    pid = place.ready()[1]["pid"]
    go_on = place.folder / "go-on"
    asks = [Ask(place.nginx.port, OWN_HOST, method, f"/?until={go_on}", body=b"") for method in ("GET", "HEAD", "POST")]
    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask.once) for ask in asks]
        until(lambda: place.daemon.log("bob").count(b" waits") == len(asks), 20, "the requests to be taken")
        os.kill(pid, signal.SIGKILL)
        go_on.touch()
        got, looked, posted = (one.result() for one in asking)
    assert got.by_the_lab, got
    assert looked.by_the_lab, looked
    assert int(got.text) == place.ready()[1]["pid"] != pid
    assert posted.status == 502, posted
    assert "not known" in posted.text
    assert place.daemon.log("bob").count(b"POST waits") == 1
