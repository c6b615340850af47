"""The doctor looks at accounts, folders, programs, ports and groups, with the eyes of whom they are for."""

import grp
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import MappingProxyType

import pytest
from rig.users import account

from jlabd.doctor import as_account, labs, surroundings
from jlabd.doctor.__main__ import examine, told
from jlabd.doctor.as_account import NotAllowedError, look
from jlabd.doctor.findings import Grade
from jlabd.doctor.places import survey
from jlabd.spec import Configuration, DaemonSpec, InstanceSpec, TcpListen, UnixListen

ME = pwd.getpwuid(os.geteuid())


def configuration(*specs, **daemon):
    return Configuration("/x", DaemonSpec(**daemon), instances=MappingProxyType({spec.name: spec for spec in specs}))


def instance(name="a", listen=UnixListen("/x"), **more):  # noqa: B008  (frozen)
    return InstanceSpec(name, listen, **more)


def found(*specs):
    """Return what the doctor finds about labs, as text."""
    findings = labs.examine(configuration(*specs), os.geteuid())
    return "\n".join(f"{finding.grade}: {finding.sentence} ({finding.fix})" for finding in findings)


@pytest.fixture
def venv(tmp_path):
    """An environment as far as the doctor looks at it: records of packages, and a program."""
    folder = tmp_path / "venv"
    packages = folder / "lib/python3.11/site-packages"
    for package in ("jupyterlab-4.4.1", "ipykernel-6.29.0", "jupyter_server-2.15.0", "jupyterlab_git-0.51"):
        (packages / f"{package}.dist-info").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin/python").symlink_to(shutil.which("true"))
    return folder


def test_all_is_well(venv, tmp_path):
    """Nothing to say is said in one line, however many labs there are."""
    specs = [instance(f"l{n}", root_dir=str(tmp_path), venv=str(venv)) for n in range(20)]
    assert found(*specs) == "ok: their account, folder and program are in order (20 labs) ()"


def test_what_is_missing(venv, tmp_path):
    """Each thing that a lab needs and has not, once for all that it concerns, with the fix."""
    shutil.rmtree(venv / "lib/python3.11/site-packages/jupyterlab-4.4.1.dist-info")
    text = found(
        *(instance(f"l{n}", root_dir=str(tmp_path), venv=str(venv)) for n in range(6)),
        instance("gone", root_dir="/nonexistent/x", venv="/nonexistent/v"),
        instance("nobody", user="nosuchuser"),
        instance("own", root_dir=str(tmp_path), command=("/nonexistent/run",), token_file="/nonexistent/token"),
    )
    assert f"wrong: l0, l1, l2 and 3 more: there is no JupyterLab in {venv}" in text
    assert f"({venv}/bin/pip install --upgrade jupyterlab)" in text
    assert "cannot use the folder /nonexistent/x: no such file or directory (there is no /nonexistent)" in text
    assert "cannot run /nonexistent/v/bin/python: no such file or directory (there is no /nonexistent)" in text
    assert "python3 -m venv /nonexistent/v && /nonexistent/v/bin/pip install jupyterlab" in text
    assert "wrong: nobody: there is no account nosuchuser (useradd nosuchuser, or correct user)" in text
    assert "cannot run /nonexistent/run" in text
    assert "token_file: there is no /nonexistent/token" in text


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("jupyterlab-4.4.1", "jupyterlab-3.2.9", "advice: a: JupyterLab 3.2.9 in"),
        ("jupyterlab-4.4.1", "jupyterlab-4.5.0b1", "ok"),
        ("ipykernel-6.29.0", "x-1", "advice: a: there is no Python kernel in"),
    ],
)
def test_versions(venv, tmp_path, before, after, said):
    """What is installed is read from the environment's own records."""
    packages = venv / "lib/python3.11/site-packages"
    (packages / f"{before}.dist-info").rename(packages / f"{after}.dist-info")
    assert found(instance(root_dir=str(tmp_path), venv=str(venv))).startswith(said)


@pytest.mark.parametrize("content", ["[1]", "{}", "nonsense", '{"argv": 3}', '{"argv": ["python"]}', "[" * 100_000])
def test_kernels(venv, tmp_path, content):
    """A kernel whose Python is gone is told; one that cannot be understood, or means the lab's own, is not."""
    kernel = venv / "share/jupyter/kernels/old/kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": ["/nonexistent/bin/python", "-m", "ipykernel_launcher"]}))
    text = found(instance(root_dir=str(tmp_path), venv=str(venv)))
    assert f"the kernel {kernel} cannot start: /nonexistent/bin/python is not there" in text
    kernel.write_text(content)
    assert found(instance(root_dir=str(tmp_path), venv=str(venv))).startswith("ok")


def test_a_pipe_in_the_place_of_a_kernel(venv, tmp_path):
    """What would never end to be read is not read."""
    folder = venv / "share/jupyter/kernels/trap"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "kernel.json")
    assert found(instance(root_dir=str(tmp_path), venv=str(venv))).startswith("ok")


def test_names_that_users_chose_do_nothing_to_a_terminal(venv, tmp_path):
    """Control characters, ends of lines and what is no UTF-8 are shown as what they are."""
    kernel = venv / "share/jupyter/kernels" / os.fsdecode(b"a\x1b]0;b\x07\n    ok  c\xff") / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": ["/nonexistent/python"]}))
    [finding] = labs.examine(configuration(instance(root_dir=str(tmp_path), venv=str(venv))), os.geteuid())
    lines = told(finding).splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert r"kernels/a\x1b]0;b\x07\x0a    ok  c\udcff/kernel.json" in lines[0]


@pytest.mark.root
@pytest.mark.parametrize(("owner", "runs"), [(0, True), (65534, False)])
def test_root_runs_no_command_of_somebody_elses(tmp_path, owner, runs):
    """A configuration that another user could write says nothing that root would run."""
    path = tmp_path / "jlabd.toml"
    command = ["/bin/sh", "-c", f"touch {tmp_path}/sprung; echo", "-t"]
    path.write_text(f"[daemon]\nruntime_dir = '{tmp_path}/run'\n[nginx]\ntest_command = {json.dumps(command)}\n")
    os.chown(path, owner, -1)
    text = "\n".join(map(told, examine(path, f"{tmp_path}/no.sock")))
    assert (tmp_path / "sprung").exists() == runs
    assert (f"root would run, but {path} belongs to another user" in text) != runs


def test_a_real_environment(lab4_venv):
    """A real JupyterLab is recognised."""
    seen = survey("/tmp", [f"{lab4_venv}/bin/python"], str(lab4_venv), "/tmp")
    assert seen["packages"].keys() == {"jupyterlab", "jupyter_server", "ipykernel"}
    assert (seen["programs"], seen["kernels"], seen["folder"]) == ({f"{lab4_venv}/bin/python": ""}, {}, "")


def test_open_secrets(venv, tmp_path):
    """A file with a secret that everybody may read is wrong."""
    secret = tmp_path / "token"
    secret.write_text("x")
    secret.chmod(0o644)
    spec = instance(root_dir=str(tmp_path), venv=str(venv), token_file=str(secret))
    assert f"token_file: everybody may read or change {secret} (chmod o= {secret})" in found(spec)
    secret.chmod(0o640)
    assert found(spec).startswith("ok")


@pytest.mark.root
def test_with_the_users_eyes(venv, tmp_path, monkeypatch):
    """What root could open is closed for the lab's user, and the folder that closes it is named."""
    with account() as alice:
        closed = tmp_path / "closed"
        closed.mkdir(0o700)
        text = found(instance(user=alice.pw_name, root_dir=str(closed), venv=f"{tmp_path}/venv"))
        assert f"wrong: a: {alice.pw_name} cannot use the folder {closed}: permission denied" in text
        first = next(folder for folder in reversed(closed.parents) if not folder.stat().st_mode & 0o001)
        assert f"({first} is closed)" in text
        assert f"{alice.pw_name} cannot run {tmp_path}/venv/bin/python: permission denied ({first} is closed)" in text
        assert look(alice, lambda: [os.getuid(), os.getgid(), os.getgroups()]) == [
            alice.pw_uid,
            alice.pw_gid,
            [alice.pw_gid],
        ]
        with pytest.raises(OSError, match="cannot look as"):
            look(alice, lambda: sys.exit(1))
        monkeypatch.setattr(as_account, "PATIENCE_S", 0.2)
        with pytest.raises(OSError, match=r"do not answer within 0.2 s"):
            look(alice, lambda: time.sleep(60))


@pytest.mark.root
def test_an_ordinary_user_asks(venv):
    """She gets to know about her own labs; about others' she is told who could look."""
    with account() as alice:
        reading = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})"
        program = (
            f"{reading}; import os, pwd; os.setgroups([]); from jlabd.doctor.as_account import *; import json;"
            f" os.setresgid(*[{alice.pw_gid}] * 3); os.setresuid(*[{alice.pw_uid}] * 3)\n"
            "try: look(pwd.getpwnam('root'), int)\nexcept NotAllowedError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == "only root can look as root\n"
    assert NotAllowedError("x").args == ("x",)


def test_ports():
    """A port that somebody has is told, with who it is; free ones are free."""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as freed:
        port, free = taken.getsockname()[1], freed.getsockname()[1]
        freed.close()
        wanted = configuration(instance(listen=TcpListen("127.0.0.1", port)), status_listen=TcpListen("::1", free))
        [finding] = surroundings.about_ports(wanted)
        assert finding.grade == Grade.WRONG
        assert f"127.0.0.1 port {port}, wanted by instance a, is taken by " in finding.sentence
        assert f"(pid {os.getpid()})" in finding.sentence
    [finding] = surroundings.about_ports(wanted)
    assert (finding.grade, finding.sentence) == (Grade.GOOD, f"{free}, {port} are free")


def test_administrators():
    """Who may control everything, or that the group for it is missing."""
    there = grp.getgrall()[-1]
    [finding] = list(surroundings.about_administrators(configuration(admin_group=there.gr_name)))[:1]
    assert (finding.grade, there.gr_name in finding.sentence) == (Grade.GOOD, True)
    [finding] = surroundings.about_administrators(configuration(admin_group="nosuchgroup"))
    assert (finding.grade, "groupadd --system nosuchgroup" in finding.fix) == (Grade.ADVICE, True)
    [finding] = surroundings.about_administrators(configuration(admin_group=""))
    assert finding.grade == Grade.GOOD


def test_processes_without_a_cgroup():
    """Labs that run outside of cgroups of their own are told apart by marks, which is said."""
    [finding] = surroundings.about_trees(configuration(), [os.getpid()])
    assert (finding.grade, "Delegate=yes" in finding.fix) == (Grade.ADVICE, True)
    assert list(surroundings.about_trees(configuration(), [])) == []
