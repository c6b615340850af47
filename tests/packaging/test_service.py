"""jlabd as a service of a really booted systemd: what verbs, watchdog and descriptor store do to the labs."""

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from rig.waiting import until

from tests.packaging.booted import INSIDE, web

pytestmark = pytest.mark.root


def up(machine, *names):
    """Boot, start jlabd, and return name → pid of the instances once they are ready."""
    machine.boot().systemctl("start", "jlabd")
    return pids(machine, *names)


def pids(machine, *names):
    """Return name → pid of the instances once they are ready."""
    return {name: machine.wait_for(name)["pid"] for name in names}


def remembered(machine, name):
    """Return which state of an instance a next jlabd would find written down."""
    return json.loads(machine.run("cat", "/var/lib/jlabd/state.json"))["instances"][name]["actual"]


def signal_main(machine, name):
    """Send a signal to jlabd alone."""
    machine.systemctl("kill", "--kill-whom=main", f"--signal={name}", "jlabd")


def until_replaced(machine, main_pid):
    """Wait until another jlabd than `main_pid` is up."""
    until(lambda: machine.show("ActiveState") == "active" and machine.show("MainPID") not in {"0", main_pid}, 30)


EXPOSURE = {"jlabd.service": 9.6, "jlabd-labs.service": 1.5}
"""What `systemd-analyze security` may say at most; why it is so much for the first is written there."""


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_units_are_clean(machine_of, suite):
    """systemd 252 and 257 find nothing to complain about in the units, and no more exposure than is explained."""
    machine = machine_of(suite)
    machine.boot()
    assert machine.run("systemd-analyze", "verify", "--man=no", *EXPOSURE) == ""
    for unit, most in EXPOSURE.items():
        said = machine.run("systemd-analyze", "security", "--no-pager", unit)
        assert float(re.search(rf"level for {re.escape(unit)}: ([\d.]+)", said)[1]) <= most, said


def test_start(machine):
    """`systemctl start` returns when jlabd answers; the labs have a unit of their own; the journal has priorities."""
    machine.configure(web("a") + '[instance.bad]\ncommand = ["/none"]\n')
    machine.boot().systemctl("start", "jlabd")
    assert len(machine.document()["instances"]) == 2
    assert machine.show("StatusText") == "supervising 2 instances"
    pid = machine.wait_for("a")["pid"]
    assert machine.inside(f"/proc/{pid}/cgroup").read_text().splitlines()[-1].endswith("/lab-a")
    assert "/jlabd-labs.service/" in machine.inside(f"/proc/{pid}/cgroup").read_text()
    machine.wait_for("bad", "failed")
    lines = [json.loads(line) for line in machine.journal("--output=json").splitlines()]
    ours = {line["MESSAGE"].split(":")[0]: line["PRIORITY"] for line in lines if line.get("_COMM") == "jlabd"}
    assert (ours["a is ready"], ours["bad is failed"]) == ("6", "4")
    environment = machine.inside(f"/proc/{pid}/environ").read_text()
    assert f"LISTEN_PID={pid}\0" in environment
    assert "NOTIFY_SOCKET" not in environment
    assert "WATCHDOG" not in environment


@pytest.mark.parametrize("labs_unit", ["labs unit", "no labs unit"])
def test_restart_and_stop(machine, labs_unit):
    """Restarts keep every lab, also many in a row; `stop` ends all of it, also children that ignore SIGTERM."""
    if labs_unit == "no labs unit":
        machine.put("/etc/systemd/system/jlabd-labs.service", "[Unit]\nDescription=nothing that could be started\n")
    machine.configure(web("a") + web("b", "ignore-term", stop='{ timeout = "1s" }') + web("c", autostart="false"))
    before = up(machine, "a", "b")
    main_pid = machine.show("MainPID")
    for verb in ("restart", "try-restart", "restart"):
        machine.systemctl(verb, "jlabd")
        assert pids(machine, "a", "b") == before
        assert machine.instance("c")["state"] == "stopped"
        assert machine.show("NFileDescriptorStore") == "3"
    assert machine.show("MainPID") != main_pid
    signal_main(machine, "KILL")
    until_replaced(machine, machine.show("MainPID"))
    assert pids(machine, "a", "b") == before
    home = "jlabd-labs.service" if labs_unit == "labs unit" else "jlabd.service"
    assert f"/{home}/" in machine.inside(f"/proc/{before['a']}/cgroup").read_text()
    machine.systemctl("stop", "jlabd")
    until(lambda: machine.processes() == [], 5, "nothing to be left")
    assert machine.run("pgrep", "-f", "children/web.py", check=False) == ""
    assert machine.systemctl("is-active", "jlabd", "jlabd-labs", check=False).split() == ["inactive", "inactive"]
    assert list(machine.inside("/run/jlabd/sockets").iterdir()) == []
    machine.systemctl("start", "jlabd")
    assert not set(pids(machine, "a", "b").values()) & set(before.values())


@contextmanager
def asking(machine, name, answers):
    """Ask an instance again and again meanwhile; the last question is asked after the end."""
    over = threading.Event()

    def ask_and_ask():
        while not over.is_set():
            answers.append(machine.ask(name))
        answers.append(machine.ask(name))

    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask_and_ask)
        try:
            yield
        finally:
            over.set()
    asked.result()


def test_no_request_fails(machine):
    """While jlabd is restarted, requests to labs that run and to those that do not are all answered."""
    machine.configure(web("a") + web("c", autostart="false"))
    before = up(machine, "a")
    running, stopped = [], []
    with asking(machine, "a", running), asking(machine, "c", stopped):
        for _ in range(3):
            machine.systemctl("restart", "jlabd")
    assert set(running) == {(200, str(before["a"]))}
    assert {status for status, _ in stopped} == {503}
    assert len(stopped) > 10


def test_no_request_fails_in_a_crash(machine):
    """When jlabd is killed no request to a lab that runs fails, and one to a lab that does not waits for the next."""
    machine.configure(web("a") + web("c", autostart="false"))
    before = up(machine, "a")
    running = []
    with asking(machine, "a", running):
        main_pid = machine.show("MainPID")
        signal_main(machine, "KILL")
        until(lambda: machine.show("MainPID") != main_pid, 10, every_s=0.001)
        assert machine.ask("c")[0] == 503
        until_replaced(machine, main_pid)
    assert set(running) == {(200, str(before["a"]))}


def test_lab_that_died_with_the_daemon(machine):
    """A request to a lab that died while no jlabd ran waits in the socket that systemd kept, until it is ready."""
    machine.configure(web("a"))
    machine.drop_in("[Service]\nRestartSec=1s\n")
    before = up(machine, "a")
    machine.systemctl("kill", "--signal=KILL", "jlabd")
    machine.run("kill", "-KILL", str(before["a"]))
    assert machine.show("MainPID") == "0"
    status, body = machine.ask("a")
    assert status == 200
    assert int(body) == machine.wait_for("a")["pid"] != before["a"]
    assert machine.instance("a")["incarnation"] == 2


@pytest.mark.parametrize("whom", ["all", "main"])
def test_kill_is_a_crash(machine, whom):
    """`systemctl kill -s KILL jlabd` costs nobody anything: the next jlabd is there at once and takes the labs over."""
    machine.configure(web("a") + web("b"))
    before = up(machine, "a", "b")
    main_pid = machine.show("MainPID")
    until(lambda: remembered(machine, "a") == "ready", 10, "jlabd to have written down that its lab is ready")
    machine.systemctl("kill", "-s", "KILL", f"--kill-whom={whom}", "jlabd")
    until_replaced(machine, main_pid)
    assert pids(machine, "a", "b") == before
    assert "a  ready  taken over from an earlier jlabd" in machine.run("jlabctl", "events")


def test_frozen_daemon(machine):
    """A jlabd that does nothing any more is killed by the watchdog, and its successor takes the labs over."""
    machine.configure(web("a"))
    machine.drop_in("[Service]\nWatchdogSec=3s\n")
    before = up(machine, "a")
    main_pid = machine.show("MainPID")
    began = time.monotonic()
    signal_main(machine, "STOP")
    until_replaced(machine, main_pid)
    assert time.monotonic() - began < 20
    assert pids(machine, "a") == before
    said = machine.journal()
    assert "Watchdog timeout" in said
    assert "Fatal Python error: Aborted" in said, "where it hung"


def test_reload(machine):
    """`systemctl reload` applies the file; with a mistake in it it fails, says what is wrong, and changes nothing."""
    machine.configure(web("a") + web("b"))
    before = up(machine, "a", "b")
    machine.configure(web("a") + web("c"))
    machine.systemctl("reload", "jlabd")
    assert pids(machine, "a", "c")["a"] == before["a"]
    until(lambda: machine.instance("b") is None and machine.show("NFileDescriptorStore") == "2", 10, "b to be gone")
    machine.configure(web("a", colour="1"))
    failed = machine.systemctl("reload", "jlabd", check=False)
    assert "Job for jlabd.service failed" in failed
    assert "instance.a.colour" in machine.journal()
    machine.configure(web("a"))
    signal_main(machine, "HUP")
    until(lambda: machine.instance("c") is None, 10, "c to be gone")
    until(lambda: machine.show("StatusText") == "supervising 1 instances", 5)
    assert machine.show("ActiveState") == "active"
    assert pids(machine, "a")["a"] == before["a"]


def test_stop_takes_the_time_it_needs(machine):
    """A lab that has a longer stop.timeout than the unit gets it: jlabd asks for more time."""
    machine.configure(web("a", "ignore-term", stop='{ timeout = "4s" }'))
    machine.drop_in("[Service]\nTimeoutStopSec=1s\n")
    up(machine, "a")
    began = time.monotonic()
    machine.systemctl("stop", "jlabd")
    assert 4 <= time.monotonic() - began < 15
    assert machine.show("Result") == "success"
    assert "a is stopped" in machine.journal()


def test_sigterm_by_hand(machine):
    """A SIGTERM that systemd did not send for a restart ends the labs, as it does in a terminal."""
    machine.configure(web("a"))
    up(machine, "a")
    machine.run("kill", "-TERM", machine.show("MainPID"))
    until(lambda: machine.show("ActiveState") == "inactive", 20)
    until(lambda: machine.processes() == [], 5, "nothing to be left")


def test_stop_while_starting(machine):
    """A stop that comes before jlabd is up still ends the labs that an earlier one left."""
    machine.configure(web("a"))
    up(machine, "a")
    main_pid = machine.show("MainPID")
    signal_main(machine, "KILL")
    until(lambda: machine.show("MainPID") not in {"0", main_pid}, 10)
    assert machine.show("ActiveState") == "activating"
    machine.systemctl("stop", "jlabd")
    until(lambda: machine.processes() == [], 5, "nothing to be left")


def test_stop_while_there_is_no_daemon(machine):
    """A stop that comes when jlabd has crashed and is not back yet ends the labs all the same."""
    machine.configure(web("a"))
    machine.drop_in("[Service]\nRestartSec=1h\n")
    before = up(machine, "a")
    signal_main(machine, "KILL")
    until(lambda: machine.show("SubState") == "auto-restart", 5)
    assert machine.ask("a") == (200, str(before["a"]))
    machine.systemctl("stop", "jlabd")
    until(lambda: machine.processes() == [], 5, "nothing to be left")
    assert machine.systemctl("is-active", "jlabd", "jlabd-labs", check=False).split() == ["inactive", "inactive"]


def test_the_labs_unit_does_no_harm(machine):
    """When what keeps the labs' unit up is killed, the labs run on, and new ones can be started."""
    machine.configure(web("a") + web("b", autostart="false"))
    before = up(machine, "a")
    keepers = ["cat", "/sys/fs/cgroup/system.slice/jlabd-labs.service/.control/cgroup.procs"]
    (keeper,) = machine.run(*keepers).split()
    assert machine.inside(f"/proc/{keeper}/comm").read_text() == "sleep\n"
    machine.run("kill", "-KILL", keeper)
    until(lambda: machine.run(*keepers) == "", 10)
    machine.run("jlabctl", "start", "b")
    assert machine.systemctl("is-active", "jlabd-labs", check=False) == "active\n"
    machine.systemctl("restart", "jlabd")
    assert pids(machine, "a", "b")["a"] == before["a"]


def test_given_up(machine):
    """A jlabd that cannot start any more is given up; the labs run on, and are taken over when the cause is mended."""
    machine.configure(web("a"))
    machine.drop_in("[Unit]\nStartLimitBurst=3\n")
    before = up(machine, "a")
    machine.configure(web("a", colour="1"))
    machine.systemctl("restart", "jlabd", check=False)
    until(lambda: machine.show("ActiveState") == "failed", 30, "jlabd to be given up")
    assert machine.ask("a") == (200, str(before["a"]))
    machine.configure(web("a"))
    machine.systemctl("reset-failed", "jlabd")
    machine.systemctl("start", "jlabd")
    assert pids(machine, "a") == before
    machine.systemctl("restart", "jlabd")
    assert pids(machine, "a") == before
    machine.systemctl("stop", "jlabd")
    until(lambda: machine.processes() == [], 5, "nothing to be left")


def test_reboot(machine):
    """A reboot ends the labs in order, and those with autostart are there again afterwards."""
    machine.put("/var/log/journal/README", "Makes the journal persistent.\n")
    machine.configure(web("a") + web("c", autostart="false"))
    up(machine, "a")
    machine.systemctl("enable", "jlabd")
    machine.run("jlabctl", "start", "c")
    machine.reboot()
    machine.wait_for("a")
    assert machine.instance("a")["incarnation"] == 1
    assert machine.instance("c")["state"] == "stopped"
    last = machine.journal("--boot=-1")
    assert "a is stopped: jlabd is stopping" in last
    assert "c is stopped: jlabd is stopping" in last


@pytest.mark.jupyter
def test_kernels_live_through_it(machine):
    """A variable in a kernel is still there after a restart and a crash of jlabd, and gone after a stop."""
    machine.configure('[instance.lab]\nlisten = "127.0.0.1:8888"\n')
    before = up(machine, "lab")
    token = machine.run("jlabctl", "url", "lab", "--token").strip().partition("token=")[2]

    def cell(kernel, code):
        python = f"{machine.venv}/bin/python"
        command = [python, f"{INSIDE}/tests/packaging/cell.py", "8888", "/lab/", token, kernel, code]
        return json.loads(machine.run("env", f"PYTHONPATH={INSIDE}/tests", *command).splitlines()[-1])

    kernel, _ = cell("new", "precious = 42")
    machine.systemctl("restart", "jlabd")
    assert cell(kernel, "precious")[1] == "42"
    main_pid = machine.show("MainPID")
    machine.systemctl("kill", "-s", "KILL", "jlabd")
    assert cell(kernel, "precious + 1")[1] == "43"
    until_replaced(machine, main_pid)
    assert pids(machine, "lab") == before
    assert cell(kernel, "precious + 2")[1] == "44"
    machine.systemctl("stop", "jlabd")
    until(lambda: machine.processes() == [], 5, "nothing to be left")
    assert machine.run("pgrep", "--uid", "ann", check=False) == ""
