"""Root's daemon and other people's labs: whose processes they are, what they may see, what the daemon never does."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from rig.browser import Browser
from rig.users import account, group
from rig.waiting import until
from rig.web import CHILD

pytestmark = [pytest.mark.root]

SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def people():
    """Two users, the first also in a group of her own and the second an administrator, and both groups."""
    with group() as friends, group() as admins, account(friends) as alice, account(admins) as bob:
        yield alice, bob, friends, admins


def web_of(user, **keys):
    """Return the TOML of a small web server that runs as `user`."""
    lines = [f"{key} = {value}" for key, value in keys.items()]
    script = CHILD.read_text()
    name = user.pw_name
    head = f"[instance.{name}]\nuser = {name!r}\ncommand = [{SYSTEM_PYTHON!r}, '-c', {json.dumps(script)}]\n"
    return head + "\n".join(lines) + "\n"


def ask(daemon, user, method, path, body=None):
    """Ask the control socket as `user`; return (status, answer)."""
    program = (  # the client runs as another user, who may not be able to read this checkout
        "import json, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "body = sys.argv[4].encode()\n"
        "s.sendall(f'{sys.argv[2]} {sys.argv[3]} HTTP/1.0\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\n"
        "Content-Length: {len(body)}\\r\\n\\r\\n'.encode() + body)\n"
        "data = b''\n"
        "while piece := s.recv(65536): data += piece\n"
        "sys.stdout.buffer.write(data)\n"
    )
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", program, daemon.socket, method, path, "" if body is None else json.dumps(body)],
        capture_output=True,
        check=True,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
        cwd="/",
    )
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    return int(head.split()[1]), content.decode()


def test_a_lab_is_its_users(jlabd, nginx, people, user_venv):
    """A lab runs with the ids, groups, home and umask of its user, and writes as her; nginx reaches it."""
    alice, _, friends, _ = people
    config = f"[instance.alice]\nuser = {alice.pw_name!r}\nvenv = '{user_venv}'\numask = '0027'\n"
    daemon = jlabd(config, nginx=nginx.settings().replace("nobody", "nogroup")).start()
    nginx.start()
    pid = daemon.wait_for("alice", "ready", 90)["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"Uid:\t{alice.pw_uid}\t{alice.pw_uid}\t{alice.pw_uid}\t{alice.pw_uid}\n" in status
    browser = Browser(nginx.port, "/alice/")
    browser.follow_link(daemon.token("alice"))
    kernel = browser.start_kernel()
    code = "import os, grp; print(os.getuid(), os.path.expanduser('~'), os.environ['USER'], os.getcwd())"
    expected = f"{alice.pw_uid} {alice.pw_dir} {alice.pw_name} {alice.pw_dir}\n"
    assert browser.execute(kernel, code) == expected
    names = browser.execute(kernel, "print(sorted(grp.getgrgid(g).gr_name for g in os.getgroups()))")
    assert friends in names
    browser.execute(kernel, "open('made', 'w').close()")
    made = (Path(alice.pw_dir) / "made").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (alice.pw_uid, alice.pw_gid, 0o640)


def test_sockets_open_for_the_owner_of_the_daemon_and_nginx_only(jlabd, people):
    """Neither the lab's own user nor another one can connect around nginx, or put something in the socket's place."""
    alice, bob, _, _ = people
    daemon = jlabd(web_of(alice)).start()
    daemon.wait_for(alice.pw_name, "ready")
    path = daemon.folder / f"run/sockets/{alice.pw_name}.sock"
    for user in (alice, bob):
        for program in (
            f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})",
            f"import os; os.unlink({str(path)!r})",
        ):
            done = subprocess.run(
                [SYSTEM_PYTHON, "-c", program],
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
            assert "PermissionError" in done.stderr


def test_private_folder_is_the_users_alone(jlabd, people, user_venv):
    """Settings and token of a lab can be read by its user and root, and by nobody else."""
    alice, bob, _, _ = people
    daemon = jlabd(f"[instance.alice]\nuser = {alice.pw_name!r}\nvenv = '{user_venv}'\n").start()
    daemon.wait_for("alice", "ready", 90)
    settings = daemon.folder / "run/labs/alice.1/settings.json"
    assert settings.exists()
    read = ["cat", settings]
    done = subprocess.run(
        read, user=bob.pw_uid, group=bob.pw_gid, extra_groups=[], capture_output=True, text=True, check=False
    )
    assert "Permission denied" in done.stderr
    folder = settings.parent.stat()
    assert (folder.st_uid, folder.st_mode & 0o777) == (alice.pw_uid, 0o700)
    daemon.ctl("stop", "alice", check=True)
    assert not settings.parent.exists()


def test_everybody_asks_and_the_daemon_knows_who(jlabd, people):
    """The owner controls her own instance and sees that others exist; administrators control all; strangers look."""
    alice, bob, _, admins = people
    both = web_of(alice) + web_of(bob).replace(f"instance.{bob.pw_name}", "instance.other")
    daemon = jlabd(both, daemon=f"admin_group = {admins!r}").start()
    daemon.wait_for(alice.pw_name, "ready")
    daemon.wait_for("other", "ready")
    status, answer = ask(daemon, alice, "GET", "/status")
    seen = {entry["name"]: entry for entry in json.loads(answer)["instances"]}
    assert status == 200
    assert seen[alice.pw_name]["pid"] is not None
    assert (seen["other"]["state"], seen["other"]["pid"], seen["other"]["reason"]) == ("ready", None, None)
    assert ask(daemon, alice, "POST", "/restart", {"names": [alice.pw_name]})[0] == 200
    assert ask(daemon, alice, "POST", "/stop", {"names": ["other"]})[0] == 403
    assert ask(daemon, alice, "POST", "/reload", {})[0] == 403
    assert ask(daemon, alice, "GET", "/logs/other")[0] == 403
    assert ask(daemon, bob, "POST", "/stop", {"names": [alice.pw_name]})[0] == 200
    until(lambda: daemon.instance(alice.pw_name)["state"] == "stopped", 10)


CANNOT_RUN = {
    "There is no user": {"user": "'nosuchuser'"},
    "/nonexistent/place": {"root_dir": "'/nonexistent/place'"},
    "/root": {"root_dir": "'/root'"},
    "/no/such/program": {"command": "['/no/such/program']"},
}


def test_what_cannot_run_is_failed_at_once_with_the_fix(jlabd, people):
    """A start that cannot work is not tried again and again; the reason says what to do."""
    alice = people[0]
    usual = {"user": f"'{alice.pw_name}'", "command": f"['{SYSTEM_PYTHON}', '-c', 'pass']", "root_dir": "'/'"}
    config = ""
    for number, keys in enumerate(CANNOT_RUN.values()):
        lines = [f"{key} = {value}" for key, value in {**usual, **keys}.items()]
        config += "\n".join([f"[instance.a{number}]", *lines, ""])
    daemon = jlabd(config).start()
    for number, says in enumerate(CANNOT_RUN):
        entry = daemon.wait_for(f"a{number}", "failed", 10)
        assert says in entry["reason"]
        assert entry["incarnation"] == 1


def test_root_dir_behind_a_symlink_is_entered_with_the_users_rights(jlabd, people):
    """A home that points elsewhere gives nobody more than she has."""
    alice = people[0]
    link = Path(alice.pw_dir) / "link"
    link.symlink_to("/root")
    daemon = jlabd(web_of(alice, root_dir=f'"{link}"')).start()
    assert "root_dir" in daemon.wait_for(alice.pw_name, "failed", 10)["reason"]
    link.unlink()


def test_log_replaced_by_a_symlink_is_not_written_through(jlabd, people, tmp_path):
    """A symlink in the place of a log is refused, and what it points to stays as it was."""
    alice = people[0]
    victim = tmp_path / "victim"
    victim.write_text("precious")
    daemon = jlabd(web_of(alice, autostart="false")).start()
    (daemon.folder / f"log/{alice.pw_name}.log").symlink_to(victim)
    daemon.ctl("start", alice.pw_name, "--no-wait")
    until(lambda: daemon.instance(alice.pw_name)["state"] in {"backoff", "failed"}, 10, "the start to be refused")
    assert "symbolic link" in daemon.instance(alice.pw_name)["reason"]
    assert victim.read_text() == "precious"
    daemon.ctl("stop", alice.pw_name, check=True)
