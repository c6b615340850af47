"""The main job: real JupyterLab behind real nginx, used as a browser uses it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rig.browser import Browser
from rig.daemon import PROGRAMS

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


@pytest.fixture(params=["lab4_venv", "lab3_venv"])
def venv(request):
    """Both generations of JupyterLab."""
    return request.getfixturevalue(request.param)


def lab(name, venv, **keys):
    """Return the TOML of one lab."""
    lines = [f"{key} = {value!r}" for key, value in keys.items()]
    return "\n".join([f"[instance.{name}]", f"venv = '{venv}'", "root_dir = '{folder}/home'", *lines, ""])


def files_with(folder, text):
    """Return the files below `folder` that hold `text`."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.parametrize("routing", ["path", "host"])
def test_password_token_kernel(jlabd, nginx, venv, password_hash, routing):
    """A lab answers through nginx, by path or by host; password and link log in; a kernel computes over a websocket."""
    names = ("127.0.0.1", "localhost")
    own = {"server_name": "alice.example.com"} if routing == "host" else {}
    config = lab("alice", venv, password_hash=password_hash, **own)
    daemon = jlabd(config, nginx=nginx.settings(*names)).start()
    nginx.start()
    daemon.wait_for("alice", "ready")
    base, host = ("/", "alice.example.com") if routing == "host" else ("/alice/", "127.0.0.1")

    stranger = Browser(nginx.port, base, host)
    assert stranger.get("api/kernels").status_code == 403
    assert stranger.log_in("wrong").status_code == 401
    assert stranger.get("api/kernels").status_code == 403

    known = Browser(nginx.port, base, host)
    assert known.log_in(PASSWORD).status_code == 302
    kernel = known.start_kernel()
    assert known.execute(kernel, "1+1") == "2"

    link = Browser(nginx.port, base, host)
    assert link.follow_link(daemon.token("alice")).status_code == 200
    assert link.execute(kernel, "print('hello'*2)") == "hellohello\n"
    forged = Browser(nginx.port, base, "evil.example.com")
    assert forged.get("api").status_code in {403, 421, 444}


def test_no_tcp_port_leads_to_a_lab_or_its_kernels(jlabd, nginx, venv):
    """A lab listens nowhere on TCP, and its kernels' channels are unix sockets in the private folder.

    ipykernel itself keeps one loopback port for the output of its subprocesses; it takes messages and gives none.
    """
    daemon = jlabd(lab("alice", venv), nginx=nginx.settings()).start()
    nginx.start()
    pid = daemon.wait_for("alice", "ready")["pid"]
    browser = Browser(nginx.port, "/alice/")
    browser.follow_link(daemon.token("alice"))
    kernel = browser.start_kernel()
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    assert f"pid={pid}," not in listening
    channels = browser.execute(kernel, "import ipykernel as k; print(k.get_connection_info())")
    assert json.loads(channels)["transport"] == "ipc"
    assert json.loads(channels)["ip"].startswith(f"{daemon.folder}/run/labs/alice.1/rt/")


def test_no_secret_where_others_can_read(jlabd, nginx, lab4_venv, password_hash):
    """Neither token nor hash is in an argument, in an environment, in a log or in a file that others can read."""
    daemon = jlabd(lab("alice", lab4_venv, password_hash=password_hash), nginx=nginx.settings()).start()
    nginx.start()
    pid = daemon.wait_for("alice", "ready")["pid"]
    browser = Browser(nginx.port, "/alice/")
    browser.follow_link(daemon.token("alice"))
    kernel = browser.start_kernel()
    kernel_pid = int(browser.execute(kernel, "import os; os.getpid()"))
    secrets = (daemon.token("alice"), password_hash)
    for process in (pid, kernel_pid):
        for place in ("cmdline", "environ"):
            content = Path(f"/proc/{process}/{place}").read_bytes().decode(errors="replace")
            assert not [secret for secret in secrets if secret in content], f"/proc/{process}/{place}"
    for secret in secrets:
        assert secret not in daemon.said()
        assert secret.encode() not in daemon.log("alice")
        assert secret not in (nginx.folder / "access.log").read_text()
        for folder in ("run", "log"):
            for path in files_with(daemon.folder / folder, secret):
                assert path.stat().st_mode & 0o077 == 0, path


def test_both_routings_at_once(jlabd, nginx, lab4_venv):
    """Two labs, one by path and one by host, on one nginx: each sees only its own requests."""
    config = lab("alice", lab4_venv) + lab("bob", lab4_venv, server_name="bob.example.com")
    daemon = jlabd(config, nginx=nginx.settings()).start()
    nginx.start()
    daemon.wait_for("alice", "ready")
    daemon.wait_for("bob", "ready")
    assert Browser(nginx.port, "/alice/").get("api").json()["version"]
    assert Browser(nginx.port, "/", "bob.example.com").get("api").json()["version"]
    assert Browser(nginx.port, "/bob/").get("api").status_code == 404
    assert Browser(nginx.port, "/alice/", "bob.example.com").get("api").status_code in {302, 403, 404}
    token = daemon.token("alice")
    assert daemon.token("bob") != token
    other = Browser(nginx.port, "/", "bob.example.com")
    assert other.get("api/kernels", headers={"Authorization": f"token {token}"}).status_code == 403


@pytest.mark.parametrize("host", ["192.0.2.7", "anything.class.example.com"])
def test_address_or_pattern_as_server_name(jlabd, nginx, venv, host):
    """A lab is reached by the machine's address, or by any name of a pattern, if nginx was told so."""
    daemon = jlabd(lab("alice", venv), nginx=nginx.settings("192.0.2.7", "*.class.example.com")).start()
    nginx.start()
    daemon.wait_for("alice", "ready")
    browser = Browser(nginx.port, "/alice/", host)
    assert browser.follow_link(daemon.token("alice")).status_code == 200
    assert browser.execute(browser.start_kernel(), "2+2") == "4"
    assert Browser(nginx.port, "/alice/", "192.0.2.8").get("api").status_code == 421


def test_missing_jupyterlab_is_failed_with_the_fix(jlabd, tmp_path):
    """A venv without JupyterLab is failed at once, with a sentence that says what to install where."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    daemon = jlabd(lab("alice", tmp_path / "bare")).start()
    reason = daemon.wait_for("alice", "failed", 15)["reason"]
    assert "JupyterLab is not installed" in reason
    assert f"{tmp_path}/bare/bin/" in reason
