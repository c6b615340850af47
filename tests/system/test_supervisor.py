"""jlabd under a real supervisord, with the file that we ship."""

import os
import shutil
import signal
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest
from rig.processes import is_alive, with_argument
from rig.waiting import until
from rig.web import web

from tests.house.tree import TOP

SHIPPED = TOP / "etc/supervisor-jlabd.ini"
PROGRAMS = Path(sys.executable).parent

SUPERVISORD = """
[supervisord]
nodaemon = true
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}
[unix_http_server]
file = {folder}/supervisor.sock
[supervisorctl]
serverurl = unix://{folder}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""


class Supervisor:
    """A supervisord whose only program is jlabd: as we ship it, but for paths and the account."""

    def __init__(self, jlabd):
        self.jlabd = jlabd
        self.folder = jlabd.folder
        self.process = None
        shipped = RawConfigParser(comment_prefixes=(";",))
        shipped.read(SHIPPED)
        program = shipped["program:jlabd"]
        command = program["command"]
        assert command.endswith(" /opt/jlabd/bin/jlabd"), command
        setpriv = shutil.which("setpriv")
        program["command"] = f"{setpriv} --pdeathsig KILL {PROGRAMS}/jlabd --config {jlabd.path}"
        program["stdout_logfile"] = f"{self.folder}/jlabd.out"
        if os.geteuid() != 0:
            del program["user"]
        with (self.folder / "supervisord.conf").open("w") as out:
            out.write(SUPERVISORD.format(folder=self.folder))
            shipped.write(out)

    def start(self):
        """Start supervisord, and wait until jlabd runs."""
        command = [PROGRAMS / "supervisord", "-c", self.folder / "supervisord.conf"]
        with (self.folder / "supervisord.out").open("ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        until(lambda: "RUNNING" in self.ctl("status", "jlabd"), 30, "jlabd to run", every_s=0.1)
        return self

    def ctl(self, *words):
        """Run supervisorctl; return what it printed."""
        command = [PROGRAMS / "supervisorctl", "-c", self.folder / "supervisord.conf", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout

    @property
    def pid(self):
        """Return jlabd's pid."""
        return int(self.ctl("pid", "jlabd"))

    def daemons(self):
        """Return the pids of all jlabds that have our configuration, setpriv's before it became jlabd included."""
        return with_argument(str(self.jlabd.path))

    def wait_for_lab(self):
        """Return the pid of the lab once it is ready."""
        until(self._answers, 30, "jlabd to answer")
        return self.jlabd.wait_for("a", "ready")["pid"]

    def _answers(self):
        try:
            return self.jlabd.document()
        except OSError:
            return None

    def stop(self):
        """End supervisord as `systemctl stop supervisord` does."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(60) == 0


@pytest.fixture
def supervisor(jlabd):
    """A supervisord that is not started yet, with one small server that has children of all kinds."""
    daemon = jlabd(web("a", "children"))
    made = Supervisor(daemon)
    yield made
    made.stop()


def test_under_supervisor(supervisor):
    """Crashes of jlabd and of supervisord cost no lab; stop, restart and shutdown end every process of all labs."""
    lab = supervisor.start().wait_for_lab()
    assert len(with_argument(f"{supervisor.folder.name}-child")) == 3

    first = supervisor.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.ctl("pid", "jlabd").strip() not in {"0", str(first)}, 30, "another jlabd")
    assert supervisor.wait_for_lab() == lab

    second = supervisor.pid
    supervisor.process.kill()
    supervisor.process.wait()
    until(lambda: not is_alive(second), 10, "jlabd to end with its supervisord")
    assert is_alive(lab)
    supervisor.start()
    assert supervisor.wait_for_lab() == lab
    assert supervisor.daemons() == [supervisor.pid]

    before = supervisor.pid
    supervisor.ctl("signal", "USR2", "jlabd")
    until(lambda: supervisor.jlabd.said().count("jlabd is up.") == 4, 30, "the re-execution")
    assert (supervisor.pid, supervisor.wait_for_lab()) == (before, lab)

    supervisor.ctl("restart", "jlabd")
    assert not is_alive(lab)
    assert supervisor.wait_for_lab() != lab

    supervisor.ctl("stop", "jlabd")
    assert "STOPPED" in supervisor.ctl("status", "jlabd")
    assert with_argument(supervisor.folder.name) == [supervisor.process.pid]
    supervisor.ctl("start", "jlabd")
    supervisor.wait_for_lab()
    supervisor.stop()
    assert with_argument(supervisor.folder.name) == []
