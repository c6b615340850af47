"""Labs forked from a warm parent: they are what cold ones are, and nobody gets at the parent."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from rig.browser import Browser
from rig.daemon import WITHOUT_CGROUPS, daemons
from rig.nginx import free_port
from rig.processes import is_alive, open_descriptors, with_argument
from rig.users import account, group
from rig.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.jupyter]

SYSTEM_PYTHON = "/usr/bin/python3"
SECRET = "a-secret-that-only-alice-has"

# Runs inside the server process: what a lab is, as JSON in its user's home.
FACTS = """
import getpass, json, locale, multiprocessing, os, random, site, ssl, sys, tempfile, uuid, warnings
import send2trash.plat_other, sysconfig, wsgiref.handlers
from jupyter_client.session import Session
from jupyterlab.labapp import LabApp
from multiprocessing import process
me = multiprocessing.current_process()
same = {
    "environment": {k: v for k, v in os.environ.items() if k != "JLABD_MARK" and "RUNTIME" not in k},
    "home": os.path.expanduser("~"), "user": getpass.getuser(), "cwd": os.getcwd(), "path": sys.path,
    "argv": sys.argv[:1], "executable": sys.executable, "prefix": sys.prefix, "locale": locale.setlocale(0),
    "settings": LabApp().user_settings_dir, "workspaces": LabApp().workspaces_dir, "session": Session().username,
    "trash": send2trash.plat_other.HOMETRASH, "trash uid": send2trash.plat_other.uid,
    "userbase": sysconfig.get_config_var("userbase"), "user site": [site.ENABLE_USER_SITE, site.USER_SITE],
    "wsgi": wsgiref.handlers.BaseHandler.os_environ["HOME"], "bytecode": sys.dont_write_bytecode,
    "spawn": process.ORIGINAL_DIR, "warnings": warnings.showwarning.__module__,
    "flags": __import__("subprocess")._args_from_interpreter_flags(),
}
chance = [random.random(), uuid.uuid4().hex, uuid.uuid1().hex, tempfile.mktemp(), bytes(me.authkey).hex(),
          ssl.RAND_bytes(8).hex(), os.urandom(8).hex()]
json.dump([same, chance], open(os.path.expanduser("~/facts-" + os.environ["WHICH"]), "w"))
"""

INSTANCE = """
[instance.{name}]
user = {user!r}
venv = {venv!r}
root_dir = {home!r}
warm = {warm}
config_files = ["{{folder}}/facts.py"]
no_new_privileges = true
limits = {{ open_files = 1234 }}
env = {{ WHICH = {name!r}, SECRET = {secret!r} }}
"""


@pytest.fixture(scope="module")
def people():
    """Two users, the first in a group of her own."""
    with group() as friends, account(friends) as alice, account() as bob:
        yield alice, bob


@pytest.fixture(scope="module")
def labs(people, user_venv):
    """A daemon with alice's lab, warm and cold, and bob's, warm."""
    alice, bob = people

    def instance(name, user, warm):
        facts = {"name": name, "user": user.pw_name, "venv": str(user_venv), "home": user.pw_dir, "secret": SECRET}
        return INSTANCE.format(warm=warm, **facts)

    config = instance("alice", alice, "true") + instance("cold", alice, "false") + instance("bob", bob, "true")
    config += f"listen = {free_port()}\n"
    with daemons() as make:
        daemon = make(config)
        (daemon.folder / "facts.py").write_text(FACTS)
        daemon.start()
        for name in ("alice", "cold", "bob"):
            daemon.wait_for(name, "ready")
        yield daemon


def parent_of(daemon):
    """The pid of the daemon's warm parent."""
    (pid,) = with_argument(f"{daemon.folder}/run/launcher/warm.py")
    return pid


def read(path):
    return Path(path).read_text(errors="replace")


def seen(pid):
    """What the kernel says of a server, but for what differs from one process to the next."""
    status = dict(re.findall(r"^(\w+):\s*(.*)$", read(f"/proc/{pid}/status"), re.MULTILINE))
    wanted = "Umask Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp SigBlk SigIgn SigCgt Name"
    stat = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    limits = [line for line in read(f"/proc/{pid}/limits").splitlines() if "realtime timeout" not in line]
    return {
        **{name: status[name] for name in wanted.split()},
        "parent": stat[1],
        "leads its session": stat[3] == str(pid),
        "nice": stat[16],
        "limits": limits,
        "descriptors": sorted(re.sub(r"\d{3,}|\w+\.log", "", os.readlink(f"/proc/{pid}/fd/{n}")) for n in range(5)),
        "oom": read(f"/proc/{pid}/oom_score_adj"),
        "owner of /proc": os.stat(f"/proc/{pid}/environ").st_uid,
        "cgroup": re.sub(r"lab-\w+", "lab", read(f"/proc/{pid}/cgroup")),
    }


def test_a_warm_lab_is_what_a_cold_one_is(labs, people):
    """Ids, rights, limits, descriptors, environment, paths: the kernel and Python itself see no difference."""
    warm, cold = labs.instance("alice"), labs.instance("cold")
    assert (warm["launcher"], warm["launcher_reason"]) == ("warm", None)
    assert (cold["launcher"], cold["launcher_reason"]) == ("cold", "warm = false")
    assert seen(warm["pid"]) == seen(cold["pid"])
    facts = {name: json.loads(read(f"{people[0].pw_dir}/facts-{name}")) for name in ("alice", "cold")}
    for here in facts.values():
        here[0]["environment"].pop("WHICH")
    assert facts["alice"][0] == facts["cold"][0]


def test_its_command_line_and_marks_are_its_own(labs):
    """People and the next daemon see in /proc which instance it is, not the parent."""
    pid = labs.instance("alice")["pid"]
    words = read(f"/proc/{pid}/cmdline").split("\0")
    assert words[1:5] == [
        f"{labs.folder}/run/launcher/lab.py",
        "--warm",
        "--settings",
        f"{labs.folder}/run/labs/alice.1/settings.json",
    ]
    environment = read(f"/proc/{pid}/environ").split("\0")
    assert f"LISTEN_PID={pid}" in environment
    assert any(word.startswith("JLABD_MARK=") for word in environment)


def test_no_chance_is_shared(labs, people):
    """Random numbers, names of temporary files and keys differ between labs of one parent."""
    of_alice, of_bob = (
        json.loads(read(f"{user.pw_dir}/facts-{n}"))[1] for n, user in zip(("alice", "bob"), people, strict=True)
    )
    assert not set(of_alice) & set(of_bob)


ATTACK = """
import ctypes, os, signal, sys
pid, outcome = int(sys.argv[1]), []
def tried(name, call):
    try:
        call()
    except OSError:
        return
    outcome.append(name)
for number in (0, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
    tried(f"signal {number}", lambda: os.kill(pid, number))
def ptrace():
    if ctypes.CDLL(None, use_errno=True).ptrace(16, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
tried("ptrace", ptrace)
for name in ("mem", "environ", "maps", "auxv", "syscall", "stack"):
    tried(name, lambda: open(f"/proc/{pid}/{name}", "rb").read(1))
for name in ("fd", "map_files", "root", "cwd", "ns"):
    tried(name, lambda: os.listdir(f"/proc/{pid}/{name}"))
tried("fd 4", lambda: os.readlink(f"/proc/{pid}/fd/4"))
tried("priority", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
tried("limits", lambda: __import__("resource").prlimit(pid, 7, (0, 0)))
tried("pidfd_getfd", lambda: os.close(ctypes.CDLL(None).syscall(438, os.pidfd_open(pid), 16, 0)))
print(outcome)
"""


def test_a_lab_can_do_nothing_to_the_parent(labs, people):
    """A user's process can neither signal nor trace the parent, nor look into it or at its descriptors."""
    alice, pid = people[0], parent_of(labs)
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", ATTACK, str(pid)],
        user=alice.pw_uid,
        group=alice.pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr
    assert parent_of(labs) == pid


def test_no_descriptor_of_the_parent_is_left_in_a_lab(labs):
    """What the parent has open, its socket to the daemon above all, no lab has."""
    of_parent = {target for target in open_descriptors(parent_of(labs)) if target != os.devnull}
    assert any(target.startswith("socket:") for target in of_parent)
    for name in ("alice", "bob"):
        assert not of_parent & set(open_descriptors(labs.instance(name)["pid"]))


def test_the_parent_has_few_rights_and_knows_no_secrets(labs):
    """It may become somebody else and nothing more; tokens and environments of labs never were in its memory."""
    pid = parent_of(labs)
    status = dict(re.findall(r"^(\w+):\s*(.*)$", read(f"/proc/{pid}/status"), re.MULTILINE))
    assert (status["CapPrm"], status["CapEff"]) == ("00000000000000c0", "00000000000000c0")
    assert status["Threads"] == "1"
    memory = b""
    with open(f"/proc/{pid}/mem", "rb") as file:
        for first, last in re.findall(r"^(\w+)-(\w+) rw", read(f"/proc/{pid}/maps"), re.MULTILINE):
            file.seek(int(first, 16))
            memory += file.read(int(last, 16) - int(first, 16))
    assert b"nobody-at-home" in memory
    for secret in (SECRET, labs.token("alice"), labs.token("bob")):
        assert secret.encode() not in memory
    assert os.listdir(f"{labs.folder}/run/launcher/nobody-at-home") == []


def test_roots_own_lab_is_warm_and_keeps_all_rights(jlabd, user_venv):
    """It comes from a parent of its own, which keeps what root may do; all else is as with a cold one."""
    place = f'venv = "{user_venv}"\nroot_dir = "{{folder}}/home"\n'
    daemon = jlabd(f"[instance.warm]\n{place}[instance.cold]\nwarm = false\n{place}").start()
    warm, cold = daemon.wait_for("warm", "ready"), daemon.wait_for("cold", "ready")
    assert (warm["launcher"], warm["launcher_reason"], cold["launcher"]) == ("warm", None, "cold")
    assert seen(warm["pid"]) == seen(cold["pid"])
    assert seen(warm["pid"])["CapEff"] == seen(os.getpid())["CapEff"]


def test_a_kernel_works_and_everything_ends(labs, people):
    """A cell runs, in a process of its own; after a stop nothing of the lab is left, and the parent stays."""
    pid, parent = labs.instance("bob")["pid"], parent_of(labs)
    browser = Browser(int(labs.instance("bob")["listen"].rpartition(":")[2]), "/bob/")
    browser.follow_link(labs.token("bob"))
    code = "import os; print(os.getuid(), os.path.expanduser('~'), os.getppid())"
    assert browser.execute(browser.start_kernel(), code) == f"{people[1].pw_uid} {people[1].pw_dir} {pid}\n"
    labs.ctl("stop", "bob", check=True)
    assert not with_argument(f"{labs.folder}/run/labs/bob.")
    assert parent_of(labs) == parent
    labs.ctl("start", "bob", check=True)
    assert labs.instance("bob")["launcher"] == "warm"


def test_labs_outlive_the_daemon_and_the_parent_does_not(labs):
    """After a kill -9 the next daemon goes on with the same labs and knows that they are warm; a re-exec too."""
    before, parent = {name: labs.instance(name)["pid"] for name in ("alice", "bob", "cold")}, parent_of(labs)
    labs.kill()
    until(lambda: not is_alive(parent), 30, "the parent to end with the daemon")
    (labs.folder / "state/state.json").unlink()
    labs.start()
    assert {name: labs.wait_for(name, "ready")["pid"] for name in before} == before
    assert [labs.instance(name)["launcher"] for name in ("alice", "bob", "cold")] == ["warm", "warm", "cold"]
    labs.ctl("restart", "alice", check=True)
    labs.ctl("reexec", check=True)
    until(labs.answers, 30, "the daemon to answer")
    pid = labs.wait_for("alice", "ready")["pid"]
    os.kill(pid, signal.SIGKILL)
    reason = until(lambda: (e := labs.instance("alice"))["restarts"] and e["reason"], 60, "a restart")
    assert reason
    assert any("killed by signal 9" in event for event in labs.ctl("events").stdout.splitlines())


@pytest.mark.parametrize("wrap", [(), WITHOUT_CGROUPS], ids=["cgroups", "marks"])
def test_first_start_waits_for_the_parent(jlabd, people, user_venv, wrap):
    """All labs are warm from the first on, whatever keeps their trees; a stop of the daemon leaves nothing."""
    users = "".join(
        f"[instance.{name}]\nuser = {user.pw_name!r}\nvenv = '{user_venv}'\n"
        for name, user in zip("ab", people, strict=True)
    )
    daemon = jlabd(users, wrap=wrap).start()
    for name in "ab":
        entry = daemon.wait_for(name, "ready")
        assert (entry["launcher"], entry["launcher_reason"]) == ("warm", None)
    assert daemon.stop() == 0
    assert not with_argument(str(daemon.folder))
