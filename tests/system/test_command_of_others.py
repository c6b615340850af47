"""`jlabctl` as real people call it: an owner, an administrator, a stranger, root; and what each may see and do."""

import io
import json
import os
import pwd
import shutil
import subprocess
import sys

import pytest
from rig.daemon import daemons
from rig.users import account, group
from rig.web import CHILD

from jlabd.amend.__main__ import main as amend
from jlabd.doctor.as_account import look
from tests.conftest import TOP

pytestmark = [pytest.mark.root]

SYSTEM_PYTHON = "/usr/bin/python3"
HASH = "argon2:$argon2id$v=19$m=10240,t=10,p=8$c29tZXNhbHQ$aGFzaGhhc2hoYXNo"


class House:
    """A daemon with a lab of alice and one of bob, whom `admins` lets control everything; carol has none."""

    def __init__(self, make, admins, **people):
        self.people = people | {"root": pwd.getpwuid(0)}
        script = json.dumps(CHILD.read_text())
        tables = [
            f"[instance.{name}s]\nuser = '{people[name].pw_name}'\nroot_dir = '/'\n"
            f"command = ['{SYSTEM_PYTHON}', '-c', {script}]\n"
            for name in ("alice", "bob")
        ]
        self.daemon = make("\n".join(tables), daemon=f'admin_group = "{admins}"').start()
        self.code = self.daemon.folder / "code"  # the checkout may be closed to others, as our Python may
        shutil.copytree(TOP / "jlabd", self.code / "jlabd", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("alices", "bobs"):
            self.daemon.wait_for(name, "ready")

    def ctl(self, who, *words):
        """Run jlabctl as somebody; return (exit code, stdout, stderr), with the names that the test knows people by."""
        user = self.people[who]
        done = subprocess.run(
            [SYSTEM_PYTHON, "-m", "jlabd.ctl.main", *words],
            capture_output=True,
            text=True,
            check=False,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
            cwd="/",
            env={"PYTHONPATH": str(self.code), "JLABD_SOCKET": str(self.daemon.socket), "PATH": "/usr/bin:/bin"},
            timeout=60,
        )
        said = [done.stdout, done.stderr]
        for name, entry in self.people.items():
            said = [text.replace(entry.pw_name, name) for text in said]
        return done.returncode, *said


@pytest.fixture(scope="module")
def house():
    """All of them, for all tests of this file."""
    with group() as admins, account() as alice, account(admins) as bob, account() as carol, daemons() as make:
        yield House(make, admins, alice=alice, bob=bob, carol=carol)


def test_everybody_sees_that_they_are_there(house):
    """States are everybody's; the rest of a lab is its owner's and the administrators'."""
    for who, full in (
        ("alice", {"alices"}),
        ("bob", {"alices", "bobs"}),
        ("carol", set()),
        ("root", {"alices", "bobs"}),
    ):
        code, out, err = house.ctl(who, "status", "--json")
        entries = json.loads(out)["instances"]
        assert (code, err) == (0, "")
        assert [(entry["name"], entry["state"]) for entry in entries] == [("alices", "ready"), ("bobs", "ready")]
        assert {entry["name"] for entry in entries if entry["pid"] is not None} == full
        assert house.ctl(who, "completion", "names")[1] == "alices\nbobs\n"
        table = house.ctl(who, "status")[1]
        assert len(table.splitlines()) == 3


@pytest.mark.parametrize(
    ("who", "words", "code", "said"),
    [
        ("alice", ("restart", "alices"), 0, ""),
        ("alice", ("stop", "bobs"), 1, "alice may not stop 'bobs': only bob and administrators may"),
        ("alice", ("restart", "alices", "bobs"), 1, "alice may not restart 'bobs'"),
        ("alice", ("start", "--all"), 0, ""),
        ("alice", ("stop", "alcies"), 4, "no instance 'alcies'; did you mean 'alices'?"),
        ("alice", ("logs", "alices"), 0, ""),
        ("alice", ("logs", "bobs"), 1, "alice may not read the log of 'bobs'"),
        ("alice", ("url", "bobs"), 1, "alice may not ask for the address of 'bobs'"),
        ("alice", ("signal", "alices", "USR1"), 1, "alice may not signal 'alices': only administrators may"),
        ("alice", ("reload",), 1, "alice may not reload the configuration: only administrators may"),
        ("alice", ("reload", "--dry-run"), 1, "only administrators may"),
        ("alice", ("reexec",), 1, "alice may not replace the daemon: only administrators may"),
        ("carol", ("start", "--all"), 1, "no instance is carol's to start"),
        ("carol", ("stop", "alices"), 1, "carol may not stop 'alices': only alice and administrators may"),
        ("carol", ("logs", "-f", "alices"), 1, "carol may not read the log of 'alices'"),
        ("bob", ("restart", "alices", "bobs"), 0, ""),
        ("bob", ("start", "--all"), 0, ""),
        ("bob", ("logs", "alices"), 0, ""),
        ("bob", ("signal", "alices", "0"), 2, "'0' is not a signal"),
        ("bob", ("reload",), 0, "untouched: 2"),
        ("root", ("restart", "--all"), 0, ""),
        ("root", ("reload", "--dry-run"), 0, "untouched: 2"),
    ],
)
def test_who_does_what(house, who, words, code, said):
    """What is not allowed is said with who may; nothing of it happens."""
    before = {entry["name"]: entry["pid"] for entry in house.daemon.document()["instances"]}
    result, out, err = house.ctl(who, *words)
    assert (result, said in out + err) == (code, True), (result, out, err)
    if code:
        after = {entry["name"]: entry["pid"] for entry in house.daemon.document()["instances"]}
        assert after == before
        assert err.startswith("jlabctl: ")


def test_events_are_seen_by_whom_they_concern(house):
    """An owner sees what happened to her labs; a stranger sees nothing; administrators see who asked."""
    assert house.ctl("alice", "restart", "alices") == (0, "", "")
    assert "  alices  " in house.ctl("alice", "events")[1], house.ctl("alice", "events")
    assert "  bobs  " not in house.ctl("alice", "events")[1]
    assert house.ctl("carol", "events") == (0, "", "")
    assert "restart requested by alice" in house.ctl("bob", "events")[1]


def test_a_password_by_its_owner(house):
    """An owner sets the password of her lab in a file that she may not write, and of no other's."""
    before = house.daemon.path.stat()
    program = (
        "import sys; from jlabd.control.client import *\n"
        "asked = {'name': sys.argv[2], 'password_hash': sys.argv[3]}\n"
        "try: print(request(sys.argv[1], 'POST', '/passwd', asked).read().decode())\n"
        "except ProblemError as error: print(error)"
    )

    def set_hash(who, name):
        user = house.people[who]
        return subprocess.run(
            [SYSTEM_PYTHON, "-c", program, str(house.daemon.socket), name, HASH],
            capture_output=True,
            text=True,
            check=True,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            cwd="/",
            env={"PYTHONPATH": str(house.code)},
        ).stdout

    assert "may not set the password of 'bobs'" in set_hash("alice", "bobs")
    assert "may not set the password of 'alices'" in set_hash("carol", "alices")
    assert HASH not in house.daemon.path.read_text()
    assert "The new password of 'alices' is in" in set_hash("alice", "alices")
    assert house.daemon.path.read_text().count(HASH) == 1
    after = house.daemon.path.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_who_may_not_write_the_file_says_nothing_in_it(house):
    """`add` and `remove` work with the rights of whoever calls them; an administrator of labs is not root."""

    def attempt(verb):
        order = {"verb": verb, "config": str(house.daemon.path), "name": "bobs", "values": {}, "settings": []}
        order |= {"name": "new", "values": {"user": "root", "allow_root": True}} if verb == "add" else {}
        sys.stdin, sys.stderr = io.StringIO(json.dumps(order)), io.StringIO()
        return [amend(), sys.stderr.getvalue()]

    before = house.daemon.path.read_bytes()
    for who in ("alice", "bob"):
        for verb in ("add", "remove"):
            code, said = look(house.people[who], lambda verb=verb: attempt(verb))
            assert (code, f"sudo jlabctl {verb} …" in said) == (1, True), said
    assert house.daemon.path.read_bytes() == before


def test_doctor_of_a_running_daemon(house):
    """The doctor of a healthy house finds nothing wrong, and says how processes are kept."""
    done = house.daemon.ctl("doctor", "--config", str(house.daemon.path), "--json")
    findings = json.loads(done.stdout)
    assert [finding for finding in findings if finding["grade"] == "wrong"] == []
    assert {"daemon", "labs", "processes", "administrators"} <= {finding["subject"] for finding in findings}
    assert done.returncode == 0
