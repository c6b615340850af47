"""A real browser before everything: people log in, work, and keep their work."""

import subprocess

import pytest
from rig.daemon import PROGRAMS, daemons
from rig.nginx import Nginx

pytestmark = pytest.mark.jupyter

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def password_hash():
    """A hash as `jlabctl passwd` prints it."""
    command = [PROGRAMS / "jlabctl", "passwd", "--stdin"]
    return subprocess.run(command, input=PASSWORD, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def daemon(browser, nginx_binary, lab4_venv, password_hash):
    """A daemon with one lab behind nginx."""
    nginx = Nginx(nginx_binary).prepare()
    with daemons() as make:
        lab = f"[instance.alice]\nvenv = '{lab4_venv}'\nroot_dir = '{{folder}}/home'\n"
        running = make(f"{lab}password_hash = '{password_hash}'\n", nginx=nginx.settings("127.0.0.1")).start()
        nginx.start()
        running.wait_for("alice", "ready")
        yield running
    nginx.stop()


def address(daemon, *words):
    """Return where the lab is, as `jlabctl url` says it."""
    return daemon.ctl("url", "alice", *words, check=True).stdout.strip()


def test_password_notebook_and_a_daemon_that_dies(daemon, visitor):
    """Log in with the password, run a cell, see its output; the kernel and its connection outlive the daemon."""
    visitor.open(address(daemon))
    visitor.log_in("wrong")
    visitor.page.get_by_text("Invalid credentials").wait_for()
    visitor.complaints.clear()  # of the 401
    visitor.log_in(PASSWORD)
    visitor.open_notebook()
    assert visitor.run("precious = 40 + 2; precious") == "42"
    connections = list(visitor.handshakes)
    daemon.kill()
    assert visitor.run("precious + 1") == "43"
    daemon.start()
    daemon.wait_for("alice", "ready")
    assert visitor.run("precious + 2") == "44"
    assert visitor.handshakes == connections == [101] * len(connections) != []
    assert not visitor.complaints
    assert visitor.hosts() == {"127.0.0.1"}


def test_a_page_that_is_open_over_a_restart(daemon, visitor):
    """The link logs in; over a restart of the lab the page connects again, knows that its kernel is gone, works."""
    visitor.open(address(daemon, "--token"))
    visitor.open_notebook()
    assert visitor.run("print('before')") == "before"
    visitor.handshakes.clear()
    daemon.ctl("restart", "alice", check=True)
    visitor.page.locator(".jp-Toolbar-kernelName", has_text="No Kernel").wait_for()
    assert 101 in visitor.handshakes
    assert visitor.page.locator(".jp-Dialog").count() == 0
    visitor.choose_kernel()
    assert visitor.run("print('after')") == "after"
    assert visitor.hosts() == {"127.0.0.1"}


@pytest.mark.parametrize("how", ["link", "password"])
def test_the_page_of_a_lab_that_is_down_turns_into_the_lab(daemon, visitor, how):
    """Who comes while the lab is stopped sees so, and is in the lab by itself once it is there; the link logs in."""
    daemon.ctl("stop", "alice", check=True)
    assert visitor.open(address(daemon, *(["--token"] if how == "link" else []))) == 503
    visitor.page.get_by_role("heading", name="alice is stopped").wait_for()
    visitor.complaints.clear()  # of the 503
    daemon.ctl("start", "alice", "--no-wait", check=True)
    if how == "password":
        visitor.page.locator("#login_submit").wait_for()
        visitor.log_in(PASSWORD)
    visitor.wait_for_lab()
    assert not [complaint for complaint in visitor.complaints if "503" not in complaint]
    assert visitor.hosts() == {"127.0.0.1"}
