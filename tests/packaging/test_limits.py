"""Limits in an emulated machine, whose Linux has all controllers: they hold, and what the kernel does for them is told.

One boot serves all; the tests come in the order in which they are cheapest, and each puts right what it changed.
"""

import json
import re
import signal
from contextlib import suppress

import pytest
from rig.waiting import until

from tests.packaging.booted import INSIDE, web
from tests.packaging.emulated import EmulatedMachine

pytestmark = pytest.mark.root

LEAF = "/sys/fs/cgroup/system.slice/jlabd-labs.service/jlabd-*/lab-{name}/{file}"
LIMITS = {
    "hungry": 'memory_max = "150M", tasks_max = 30',
    "slow": 'memory_high = "60M", cpu_quota = "20%"',
}
STEADY = ("state", "pid", "since", "incarnation", "restarts")
WHAT_ONE_CAN = r"""
grep -E '^(Cap|NoNewPrivs|Seccomp|Groups|Uid)' /proc/self/status
cat /proc/self/oom_score_adj
for kind in mnt net ipc uts user pid cgroup time; do readlink /proc/self/ns/$kind; done
unshare --user --map-root-user --mount --net sh -c 'mount -t tmpfs tmpfs /mnt && echo may make containers'
root-id -u
python3 -c '
import ctypes, os, signal
child = os.fork()
if child == 0:
    signal.pause()
attached = ctypes.CDLL(None).ptrace(16, child, 0, 0) == 0
os.waitpid(child, 0)
os.kill(child, 9)
print("may debug", attached)
print("may turn address randomisation off", ctypes.CDLL(None).personality(0x0040000) >= 0)
print("may write what it executes", len(__import__("mmap").mmap(-1, 4096, prot=7)))
'
ls /dev
"""


def glutton(name, limits):
    """Return the TOML of an instance that uses what it is asked to."""
    text = web(name, limits=f"{{ {limits} }}", ready='{ timeout = "5min" }')
    return text.replace("/web.py", "/glutton.py")


def configuration(**limits):
    """Return the TOML of all instances, with other limits where given."""
    gluttons = [glutton(name, usual) for name, usual in (LIMITS | limits).items()]
    show = f"{WHAT_ONE_CAN}\necho done; exec python3 {INSIDE}/tests/children/web.py"
    shown = f"[instance.shown]\ncommand = ['/bin/sh', '-c', '''{show}''']\n"
    reader = web("reader", "read=100").replace("/web.py", "/glutton.py")
    return "\n".join([*gluttons, shown, reader, web("neighbour")])


@pytest.fixture(scope="module")
def machine(boot_root_of, user_venv, kernel):
    """A machine in which jlabd runs."""
    machine = EmulatedMachine(boot_root_of("bookworm"), user_venv, kernel)
    try:
        machine.configure(configuration())
        machine.boot()
        machine.run("install", "-m", "4755", "/usr/bin/id", "/usr/local/bin/root-id")
        machine.systemctl("start", "jlabd")
        for name in (*LIMITS, "shown", "reader", "neighbour"):
            machine.wait_for(name, timeout_s=200)
        yield machine
    finally:
        machine.down()


@pytest.fixture
def unchanged(machine):
    """See that the others never notice."""
    before = machine.instance("neighbour")
    yield
    after = machine.instance("neighbour")
    assert {key: after[key] for key in STEADY} == {key: before[key] for key in STEADY}


def leaf(machine, name, file):
    """Return what a file of an instance's cgroup says."""
    return machine.run("sh", "-c", f"cat {LEAF.format(name=name, file=file)}").strip()


def counted(machine, name, file, key):
    """Return one of the numbers in a file of an instance's cgroup."""
    return int(re.search(rf"^{key} (\d+)$", leaf(machine, name, file), re.MULTILINE)[1])


def metric(machine, family, name):
    """Return what Prometheus reads of an instance."""
    _, said = machine.fetch("/metrics")
    return float(re.search(rf'^{family}\{{\w+="{name}"\}} (\S+)', said, re.MULTILINE)[1])


def reload(machine, **limits):
    """Put other limits in force; say that nobody was restarted for that."""
    before = [machine.instance(name)["pid"] for name in LIMITS]
    machine.configure(configuration(**limits))
    machine.run("jlabctl", "reload")
    assert [machine.instance(name)["pid"] for name in LIMITS] == before


def spin(machine, name):
    """Return the share of a core that an instance gets that wants two."""
    before = counted(machine, name, "cpu.stat", "usage_usec")
    _, said = machine.ask(name, "?spin=2")
    took_s = json.loads(said)["spin"]
    return (counted(machine, name, "cpu.stat", "usage_usec") - before) / 1e6 / took_s


def test_labs_are_what_a_login_is(machine):
    """Nothing of the unit's sandbox reaches a lab: it has the rights of a login, to the last bit."""
    log = ["jlabctl", "logs", "shown", "-n", "1000"]
    until(lambda: "\ndone\n" in machine.run(*log), 30)
    login = machine.run("runuser", "-l", "ann", "-c", WHAT_ONE_CAN)
    assert machine.run(*log).partition("done\n")[0].splitlines() == login.splitlines()
    lines = set(login.splitlines())
    assert {"may make containers", "0", "may debug True", "Seccomp:\t0", "NoNewPrivs:\t0"} <= lines
    assert "may turn address randomisation off True" in lines
    assert "may write what it executes 4096" in lines
    assert next(line for line in lines if line.startswith("CapBnd")).endswith("1ffffffffff")


def test_limits_are_in_the_cgroup(machine):
    """Each lab's cgroup has the limits of the configuration, its user may read them, and cannot change them."""
    assert leaf(machine, "hungry", "memory.max") == str(150 << 20)
    assert leaf(machine, "hungry", "pids.max") == "30"
    assert leaf(machine, "slow", "memory.high") == str(60 << 20)
    assert leaf(machine, "slow", "cpu.max") == "20000 100000"
    assert {leaf(machine, "neighbour", file) for file in ("memory.max", "memory.high", "pids.max")} == {"max"}
    assert leaf(machine, "hungry", "memory.oom.group") == "0"
    script = f"cd {LEAF.format(name='hungry', file='')}; cat memory.max; echo max >memory.max; mkdir mine; ls -d mine"
    said = machine.run("runuser", "-u", "ann", "--", "sh", "-c", script, check=False)
    assert said.startswith(f"{150 << 20}\n")
    assert said.count("Permission denied") == 2
    assert "mine\n" not in said.splitlines()
    assert "cannot be enforced" not in machine.journal()


def test_memory_limit_ends_a_child_alone(machine, unchanged):
    """What goes beyond memory_max is killed, the lab lives; status, events, metrics and the journal say why."""
    before = machine.instance("hungry")
    status, said = machine.ask("hungry", "?child=200")
    assert (status, json.loads(said)["child"]) == (200, signal.SIGKILL)
    after = machine.instance("hungry")
    reason = "a process of it was killed by the kernel: memory limit 150 MiB"
    assert (after["state"], after["pid"], after["reason"]) == ("ready", before["pid"], reason)
    assert f"hungry  warning  {reason}" in machine.run("jlabctl", "events")
    assert f"hungry is ready: {reason}." in machine.journal()
    machine.ask("hungry", "?child=200")
    assert machine.instance("hungry")["reason"].startswith("2 processes of it were killed by the kernel")


def test_memory_limit_ends_the_server(machine, unchanged):
    """A server that goes beyond memory_max is killed; the reason says so, and it starts again with the limit."""
    before = machine.instance("hungry")
    with suppress(OSError):
        machine.ask("hungry", "?eat=200")
    until(lambda: machine.instance("hungry")["incarnation"] > before["incarnation"], 20)
    machine.wait_for("hungry")
    assert "hungry  stopping  the server was killed by the kernel: memory limit 150 MiB" in machine.run(
        "jlabctl", "events"
    )
    assert leaf(machine, "hungry", "memory.max") == str(150 << 20)
    assert metric(machine, "jlabd_instance_memory_kills_total", "hungry") == 3


def test_too_many_processes(machine, unchanged):
    """Beyond tasks_max a fork fails; a higher limit is in force at once."""
    _, said = machine.ask("hungry", "?fork=40")
    assert 20 <= json.loads(said)["fork"] < 30
    assert leaf(machine, "hungry", "pids.current") == "29"
    reload(machine, hungry='memory_max = "150M", tasks_max = 60')
    _, said = machine.ask("hungry", "?fork=10")
    assert json.loads(said)["fork"] == 10
    reload(machine)


def test_cpu_quota(machine, unchanged):
    """An instance gets no more processor time than cpu_quota; another quota is in force at once."""
    assert spin(machine, "slow") < 0.3
    assert counted(machine, "slow", "cpu.stat", "nr_throttled") > 5
    reload(machine, slow='memory_high = "60M", cpu_quota = "100%"')
    assert 0.3 < spin(machine, "slow") < 1.3
    reload(machine)


def test_memory_high_slows_down(machine, unchanged):
    """Beyond memory_high processes are slowed down, not killed, and go on when it is lifted."""
    before = machine.instance("slow")
    with pytest.raises(OSError, match=r"[Tt]ime"):
        machine.ask("slow", "?eat=120", timeout_s=4)
    assert counted(machine, "slow", "memory.events", "high") > 0
    assert int(leaf(machine, "slow", "memory.current")) < 90 << 20
    reload(machine, slow='cpu_quota = "100%"')
    until(lambda: int(leaf(machine, "slow", "memory.current")) > 120 << 20, 30, "it to go on")
    assert counted(machine, "slow", "memory.events", "oom_kill") == 0
    assert machine.instance("slow")["pid"] == before["pid"]
    machine.run("jlabctl", "restart", "slow")
    reload(machine)


def test_next_daemon(machine, unchanged):
    """When jlabd has failed for good its labs keep their limits; the next one puts its own configuration's in force.

    It notices what memory costs, and the labs' unit is up again although processes and controllers are in it.
    """
    before = machine.instance("hungry")
    machine.configure(configuration(hungry='memory_max = "250M"'))
    machine.put("/etc/systemd/system/jlabd.service.d/test.conf", "[Service]\nRestart=no\n")
    machine.systemctl("daemon-reload")
    machine.systemctl("kill", "--signal=KILL", "jlabd")
    until(lambda: machine.systemctl("is-active", "jlabd-labs", check=False) == "inactive\n", 20)
    assert leaf(machine, "hungry", "memory.max") == str(150 << 20), "what runs goes on within its limits"
    machine.systemctl("start", "jlabd")
    assert machine.instance("hungry")["pid"] == before["pid"]
    until(lambda: leaf(machine, "hungry", "memory.max") == str(250 << 20), 10)
    assert leaf(machine, "hungry", "pids.max") == "max"
    machine.ask("hungry", "?child=300")
    reason = "a process of it was killed by the kernel: memory limit 250 MiB"
    until(lambda: machine.instance("hungry")["reason"] == reason, 10)
    assert machine.systemctl("is-active", "jlabd-labs").strip() == "active"


def test_status_counts_by_cgroup(machine):
    """What status and metrics say of memory and processor time is what the kernel charges, the page cache included."""
    said = until(lambda: machine.instance("reader")["memory_bytes"], 60)
    assert abs(said - int(leaf(machine, "reader", "memory.current"))) < 20 << 20
    assert said > 100 << 20
    used_s = counted(machine, "reader", "cpu.stat", "usage_usec") / 1e6
    assert used_s / 4 < metric(machine, "jlabd_instance_cpu_seconds_total", "reader") <= used_s


def test_limits_outlive_systemd(machine):
    """When systemd reads its units anew, or is executed anew, the labs keep their limits."""
    machine.systemctl("daemon-reload")
    machine.systemctl("daemon-reexec")
    assert leaf(machine, "hungry", "memory.max") == str(250 << 20)
    assert leaf(machine, "slow", "cpu.max") == "20000 100000"


def test_stop(machine):
    """`systemctl stop` ends all of it, and both units."""
    machine.systemctl("stop", "jlabd")
    units = ["is-active", "jlabd", "jlabd-labs"]
    until(lambda: machine.systemctl(*units, check=False).split() == ["inactive", "inactive"], 10)
    assert machine.run("pgrep", "--uid", "ann", check=False) == ""
