"""The main job: real JupyterLab behind real nginx, used as a browser uses it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rig.browser import Browser
from rig.daemon import PROGRAMS, daemons
from rig.nginx import Nginx

pytestmark = pytest.mark.jupyter

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def password_hash():
    """A hash as `jlabctl passwd` prints it."""
    done = subprocess.run(
        [PROGRAMS / "jlabctl", "passwd", "--stdin"], input=f"{PASSWORD}\n", capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("argon2:$argon2id$v=19$m=10240,t=10,p=8$")
    return done.stdout.strip()


def lab(name, venv, **keys):
    """Return the TOML of one lab."""
    lines = [f"{key} = {value!r}" for key, value in keys.items()]
    return "\n".join([f"[instance.{name}]", f"venv = '{venv}'", "root_dir = '{folder}/home'", *lines, ""])


def files_with(folder, text):
    """Return the files below `folder` that hold `text`."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


HOSTS = ("127.0.0.1", "localhost", "192.0.2.7", "*.class.example.com")
OWN_HOST = "{name}.example.com"


class Place:
    """One daemon and one nginx with four labs: both generations of JupyterLab, each once by path and once by host."""

    def __init__(self, daemon, nginx):
        self.daemon, self.nginx = daemon, nginx

    def browser(self, name, host=None):
        """Return somebody who has opened nothing yet, but knows the address; with `host` another address."""
        own = OWN_HOST.format(name=name) if name.endswith("host") else None
        return Browser(self.nginx.port, "/" if own else f"/{name}/", host or own or HOSTS[0])

    def opened(self, name, host=None):
        """Return somebody who has followed the login link."""
        browser = self.browser(name, host)
        assert browser.follow_link(self.daemon.token(name)).status_code == 200
        return browser


@pytest.fixture(scope="module")
def place(nginx_binary, lab4_venv, lab3_venv, password_hash):
    """Where all labs are ready."""
    nginx = Nginx(nginx_binary).prepare()
    config = ""
    for generation, venv in {"four": lab4_venv, "three": lab3_venv}.items():
        by_host = f"{generation}host"
        config += lab(generation, venv, password_hash=password_hash)
        config += lab(by_host, venv, password_hash=password_hash, server_name=OWN_HOST.format(name=by_host))
    with daemons() as make:
        daemon = make(config, nginx=nginx.settings(*HOSTS)).start()
        nginx.start()
        for name in ("four", "three", "fourhost", "threehost"):
            daemon.wait_for(name, "ready")
        yield Place(daemon, nginx)
    nginx.stop()


@pytest.mark.parametrize("name", ["four", "three", "fourhost", "threehost"])
def test_password_token_kernel(place, name):
    """A lab answers through nginx, by path or by host; password and link log in; a kernel computes over a websocket."""
    stranger = place.browser(name)
    assert stranger.get("api/kernels").status_code == 403
    assert stranger.log_in("wrong").status_code == 401
    assert stranger.get("api/kernels").status_code == 403

    known = place.browser(name)
    assert known.log_in(PASSWORD).status_code == 302
    kernel = known.start_kernel()
    assert known.execute(kernel, "1+1") == "2"

    link = place.opened(name)
    assert link.execute(kernel, "print('hello'*2)") == "hellohello\n"
    assert place.browser(name, "evil.example.com").get("api").status_code in {403, 421, 444}


@pytest.mark.parametrize("name", ["four", "three"])
def test_no_tcp_port_leads_to_a_lab_or_its_kernels(place, name):
    """A lab listens nowhere on TCP, and its kernels' channels are unix sockets in the private folder.

    ipykernel itself keeps one loopback port for the output of its subprocesses; it takes messages and gives none.
    """
    pid = place.daemon.instance(name)["pid"]
    browser = place.opened(name)
    kernel = browser.start_kernel()
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    assert f"pid={place.nginx.process.pid}," in listening
    assert f"pid={pid}," not in listening
    channels = browser.execute(kernel, "import ipykernel as k; print(k.get_connection_info())")
    assert json.loads(channels)["transport"] == "ipc"
    assert json.loads(channels)["ip"].startswith(f"{place.daemon.folder}/run/labs/{name}.1/rt/")


def test_no_secret_where_others_can_read(place, password_hash):
    """Neither token nor hash is in an argument, in an environment, in a log or in a file that others can read."""
    daemon = place.daemon
    pid = daemon.instance("four")["pid"]
    browser = place.opened("four")
    kernel_pid = int(browser.execute(browser.start_kernel(), "import os; os.getpid()"))
    secrets = (daemon.token("four"), password_hash)
    for process in (pid, kernel_pid):
        for where in ("cmdline", "environ"):
            content = Path(f"/proc/{process}/{where}").read_bytes().decode(errors="replace")
            assert not [secret for secret in secrets if secret in content], f"/proc/{process}/{where}"
    for secret in secrets:
        assert secret not in daemon.said()
        assert secret.encode() not in daemon.log("four")
        assert secret not in (place.nginx.folder / "access.log").read_text()
        for folder in ("run", "log"):
            for path in files_with(daemon.folder / folder, secret):
                assert path.stat().st_mode & 0o077 == 0, path


def test_both_routings_at_once(place):
    """Two labs, one by path and one by host, on one nginx: each sees only its own requests."""
    assert place.browser("four").get("api").json()["version"]
    assert place.browser("fourhost").get("api").json()["version"]
    host, port = OWN_HOST.format(name="fourhost"), place.nginx.port
    assert Browser(port, "/fourhost/").get("api").status_code == 404
    assert Browser(port, "/four/", host).get("api").status_code in {302, 403, 404}
    token = place.daemon.token("four")
    assert place.daemon.token("fourhost") != token
    headers = {"Authorization": f"token {token}"}
    assert place.browser("four").get("api/kernels", headers=headers).status_code == 200
    assert place.browser("fourhost").get("api/kernels", headers=headers).status_code == 403


@pytest.mark.parametrize("name", ["four", "three"])
@pytest.mark.parametrize("host", ["192.0.2.7", "anything.class.example.com"])
def test_address_or_pattern_as_server_name(place, name, host):
    """A lab is reached by the machine's address, or by any name of a pattern, if nginx was told so."""
    browser = place.opened(name, host)
    assert browser.execute(browser.start_kernel(), "2+2") == "4"
    assert place.browser(name, "192.0.2.8").get("api").status_code == 421


def test_missing_jupyterlab_is_failed_with_the_fix(jlabd, tmp_path):
    """A venv without JupyterLab is failed at once, with a sentence that says what to install where."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    daemon = jlabd(lab("alice", tmp_path / "bare")).start()
    reason = daemon.wait_for("alice", "failed", 15)["reason"]
    assert "JupyterLab is not installed" in reason
    assert f"{tmp_path}/bare/bin/" in reason
