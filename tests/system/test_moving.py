"""docs/moving.md: its files come to what it prints, and its commands move a lab away from a real Supervisor."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from rig.browser import Browser
from rig.daemon import PROGRAMS
from rig.guide import Guide, placed
from rig.processes import with_argument
from rig.users import account
from rig.waiting import until

from jlabd.config.importers import __main__ as importing
from jlabd.config.importers import gather
from jlabd.config.importers.findings import Machine
from tests.config.importing.given import Result

GUIDE = Guide("moving.md")
PASSWORD = "correct horse battery staple"
HOST = "alice.example.com"
SUPERVISORD = """
[supervisord]
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}
nodaemon = true
[unix_http_server]
file = {folder}/supervisor.sock
[supervisorctl]
serverurl = unix://{folder}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files = {folder}/supervisord.d/*.ini
"""


def test_every_block_is_tested():
    """Each block is a file, commands or an output, and the tests know all of them."""
    assert GUIDE.unmarked() == []
    assert set(GUIDE.commands) == {"look", "place", "move", "unit", "unit-move"}
    assert set(GUIDE.outputs) == {"look", "unit"}


@pytest.mark.parametrize("name", GUIDE.outputs)
def test_outputs(monkeypatch, name):
    """The files that the page shows come to what the page shows."""
    folder = Path(tempfile.mkdtemp(prefix="jl", dir="/tmp"))
    monkeypatch.setattr(gather, "machine", lambda: Machine(lambda user: f"{folder}/home/{user}"))
    monkeypatch.setattr(gather, "_owner", lambda uid: "")
    places = {"/etc/": f"{folder}/etc/", "/home/": f"{folder}/home/"}
    try:
        for path, text in GUIDE.files.items():
            place = folder / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(placed(text, places))
        files = placed(GUIDE.commands[name], places).removeprefix("jlabctl import ").split()
        printed = Result(importing.imported(files).replace(str(folder), ""))
    finally:
        shutil.rmtree(folder)
    shown = Result(GUIDE.outputs[name])
    assert printed.table == shown.table
    assert printed.comments == shown.comments


@contextmanager
def supervisord(folder):
    """Run a Supervisor in `folder`; it ends with all of its programs."""
    (folder / "supervisord.conf").write_text(SUPERVISORD.format(folder=folder))
    command = [PROGRAMS / "supervisord", "-c", folder / "supervisord.conf"]
    with (folder / "supervisord.out").open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.jupyter
def test_move_from_supervisor(jlabd, nginx, request):
    """Alice's lab runs under Supervisor; the page's commands are given; it runs under jlabd, with the same password."""
    venv = request.getfixturevalue("user_venv" if os.geteuid() == 0 else "lab4_venv")
    own = pwd.getpwuid(os.geteuid())
    with account() if os.geteuid() == 0 else nullcontext(own) as alice:
        settings = nginx.settings("127.0.0.1")
        daemon = jlabd("", nginx=settings, daemon='include = "{folder}/jlabd.d/*.toml"').start()
        folder = daemon.folder
        home = Path(alice.pw_dir) if os.geteuid() == 0 else folder / "home"
        places = {
            "user = alice": f"user = {alice.pw_name}",
            "jupyter-alice": f"jupyter-{alice.pw_name}",
            "start alice": f"start {alice.pw_name}",
            "listen 80;": f"listen 127.0.0.1:{nginx.port};",
            "/home/alice": home,
            "/opt/jupyterlab": venv,
            "/etc/supervisord.d": folder / "supervisord.d",
            "/etc/nginx/conf.d": nginx.folder / "conf.d",
            # The rig's own [nginx] says on which port it listens, which is not the page's 80.
            "> /etc/jlabd.d": "| sed '/^.nginx. /,/^$/d' > /etc/jlabd.d",
            "/etc/jlabd.d": folder / "jlabd.d",
            "jlabctl check": f"jlabctl check {daemon.path}",
            "supervisorctl ": f"supervisorctl -c {folder}/supervisord.conf ",
        }
        furnish(folder, home, alice, places)
        (folder / "jlabd.d").mkdir()
        main = nginx.folder / "nginx.conf"
        main.write_text(main.read_text().replace("include ", f"include {nginx.folder}/conf.d/*.conf; include "))
        with supervisord(folder):
            nginx.start()
            browser = Browser(nginx.port, "/", HOST)
            until(lambda: browser.get("api").status_code == 200, 60, "the lab under Supervisor")
            assert browser.log_in(PASSWORD).status_code == 302

            for name in ("look", "place"):
                run(GUIDE.commands[name], places, daemon)
            said = run(GUIDE.commands["move"], places, daemon)
            assert f"{venv}/bin/jupyter" not in " ".join(with_argument(str(home)))
        entry = daemon.instance(alice.pw_name)
        assert (entry["state"], entry["user"]) == ("ready", alice.pw_name)
        assert alice.pw_name in said.splitlines()[-1]
        browser = Browser(nginx.port, "/", HOST)
        assert browser.log_in(PASSWORD).status_code == 302
        cell = "import os; print(os.getcwd(), os.environ['OMP_NUM_THREADS'])"
        assert browser.execute(browser.start_kernel(), cell) == f"{home}/work 4\n"
        daemon.ctl("stop", alice.pw_name, check=True)


def furnish(folder, home, alice, places):
    """Write the page's files that are about Alice."""
    for path, text in GUIDE.files.items():
        if "systemd" in path:
            continue
        place = Path(placed(path, places))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(placed(text, places))
        place.chmod(0o755 if path.endswith(".sh") else 0o644)
    (home / "work").mkdir()
    for path in (home / "work", home / "lab", home / "start-lab.sh", home / "lab/jupyter_lab_config.py"):
        os.chown(path, alice.pw_uid, alice.pw_gid)


def run(commands, places, daemon):
    """Run commands of the page in a shell; return what they print."""
    done = subprocess.run(
        ["bash", "-ec", placed(commands, places)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "JLABD_SOCKET": str(daemon.socket)},
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}\n{daemon.said()}"
    return done.stdout
