"""From spec to process and settings, and the folders and scripts that they need."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from jlabd.core.launch import Account
from jlabd.jupyter import folder as folders
from jlabd.jupyter.launchers import SCRIPTS, install
from jlabd.jupyter.plan import plan
from jlabd.jupyter.secrets import Secrets
from jlabd.jupyter.settings import encode, lab_settings
from jlabd.spec import InstanceSpec, KernelSpec, TcpListen, UnixListen

ALICE = Account("alice", 1001, 1002, (1002, 7), "/home/alice", "/bin/zsh")
SECRETS = Secrets(token="tok", cookie_secret="ab" * 32, password_hash="sha1:x")
LAB = InstanceSpec(name="alice", listen=UnixListen("/run/s.sock"), base_url="/alice/", venv="/opt/lab")


def planned(spec, **changes):
    options = {"folder": "/f/alice.1", "launcher_dir": "/l", "relay_python": "/usr/bin/python3", "mark": "m", **changes}
    return plan(spec, ALICE, **options)


def test_lab_is_started_by_its_own_python_as_its_user():
    """JupyterLab's process is fully described: argv, a clean environment, folder, identity, limits."""
    launch = planned(replace(LAB, args=("--debug",), umask=0o027, open_files=99))
    assert launch.argv == ("/opt/lab/bin/python", "/l/lab.py", "--settings", "/f/alice.1/settings.json", "--debug")
    assert (launch.account, launch.cwd, launch.umask, launch.open_files, launch.mark) == (
        ALICE, "/home/alice", 0o027, 99, "m",
    )  # fmt: skip
    assert dict(launch.env) == {
        "HOME": "/home/alice", "USER": "alice", "LOGNAME": "alice", "SHELL": "/bin/zsh", "PWD": "/home/alice",
        "PATH": "/opt/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
        "VIRTUAL_ENV": "/opt/lab", "JUPYTER_RUNTIME_DIR": "/f/alice.1/rt",
    }  # fmt: skip


def test_operators_environment_stands_above():
    """`env` stands above `env_file`, both above the rest, and every character stays what it is."""
    odd = "100% $HOME ${x} 'q' \"d\" ü \n"
    launch = planned(replace(LAB, env={"ODD": odd, "LANG": "xx"}), extra_env={"LANG": "yy", "MORE": "1"})
    assert (launch.env["ODD"], launch.env["LANG"], launch.env["MORE"]) == (odd, "xx", "1")


def test_what_kernels_run_first():
    """With `asyncio_run` kernels run our file first, which finds the operator's own; other programs are left alone."""
    spec = replace(LAB, kernel=KernelSpec(asyncio_run=True))
    assert planned(spec).env["PYTHONSTARTUP"] == "/l/kernelstart.py"
    assert "JLABD_PYTHONSTARTUP" not in planned(spec).env
    own = planned(replace(spec, env={"PYTHONSTARTUP": "/etc/startup.py"}))
    assert (own.env["PYTHONSTARTUP"], own.env["JLABD_PYTHONSTARTUP"]) == ("/l/kernelstart.py", "/etc/startup.py")
    assert planned(spec, extra_env={"PYTHONSTARTUP": "/x"}).env["JLABD_PYTHONSTARTUP"] == "/x"
    assert "PYTHONSTARTUP" not in planned(replace(spec, command=("/bin/x",))).env
    assert "PYTHONSTARTUP" not in planned(LAB).env


def test_own_account_needs_no_switch():
    """A daemon that is not root starts instances as itself, in the account's home or the root_dir."""
    launch = planned(replace(LAB, root_dir="/data"), switch_user=False)
    assert (launch.account, launch.cwd, launch.env["PWD"], launch.env["HOME"]) == (
        None,
        "/data",
        "/data",
        "/home/alice",
    )


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (("/bin/app", "--at={base_url}"), ("/bin/app", "--at=/alice/", "more")),
        (("app", "{x}"), ("/usr/bin/python3", "/l/relay.py", "--folder", "/f/alice.1", "--", "app", "{x}", "more")),
        (("/bin/app", "{port}"),
         ("/usr/bin/python3", "/l/relay.py", "--folder", "/f/alice.1", "--", "/bin/app", "{port}", "more")),
    ],
)  # fmt: skip
def test_commands(command, argv):
    """A command is started itself, or behind the relay when that has an address or a path to find."""
    assert planned(replace(LAB, command=command, args=("more",))).argv == argv


def test_settings_of_a_unix_socket():
    """The settings are JSON with what the launcher needs, and never open the lab to foreign origins."""
    spec = replace(LAB, root_dir="/data", allow_root=True, config_files=("/c.py",))
    found = json.loads(encode(lab_settings(spec, SECRETS, ["lab.example.com", "localhost"])))
    server = found["traits"]["ServerApp"]
    assert (server["sock"], server["port"], server["base_url"], server["root_dir"], server["allow_root"]) == (
        "/run/s.sock", 8888, "/alice/", "/data", True,
    )  # fmt: skip
    assert found["traits"]["KernelManager"] == found["traits"]["ConnectionFileMixin"] == {"transport": "ipc"}
    assert (found["hostnames"], found["config_files"]) == (["lab.example.com", "localhost"], ["/c.py"])
    assert (found["token"], found["password"], found["cookie_secret"]) == ("tok", "sha1:x", "ab" * 32)
    assert "allow_origin" not in json.dumps(found)


def test_settings_of_a_port():
    """Only a proxy on this machine is believed its forwarded headers; the home is the root_dir that goes unsaid."""
    local = lab_settings(replace(LAB, listen=TcpListen("127.0.0.1", 81)), SECRETS)["traits"]["ServerApp"]
    world = lab_settings(replace(LAB, listen=TcpListen("::", 81)), SECRETS)["traits"]["ServerApp"]
    assert (local["ip"], local["port"], local["sock"], local["trust_xheaders"]) == ("127.0.0.1", 81, "", True)
    assert (world["ip"], world["trust_xheaders"]) == ("::", False)
    assert not {"root_dir", "allow_root"} & {*local}


def test_scripts_are_installed_for_everybody(tmp_path):
    """The scripts are copied whole, also over older ones; everybody can read and only we write, whatever the umask."""
    old = os.umask(0o077)
    try:
        folder = Path(install(str(tmp_path)))
        (folder / "lab.py").write_text("old")
        assert install(str(tmp_path)) == str(folder) == f"{tmp_path}/launcher"
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o7777 == 0o755
    assert sorted(path.name for path in folder.iterdir()) == sorted(SCRIPTS)
    assert all(path.stat().st_mode & 0o7777 == 0o644 for path in folder.iterdir())
    assert "JupyterLab" in (folder / "lab.py").read_text()


def test_scripts_are_not_installed_through_a_symlink(tmp_path):
    """A symbolic link in the folder's place is refused; one in a script's place is replaced, not followed."""
    (tmp_path / "a" / "launcher").mkdir(parents=True)
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "a" / "launcher" / "lab.py").symlink_to(target)
    install(str(tmp_path / "a"))
    assert target.read_text() == "precious"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "launcher").symlink_to(tmp_path / "a" / "launcher")
    with pytest.raises(OSError, match="launcher"):
        install(str(tmp_path / "b"))


def test_folder_is_private_and_holds_the_settings(tmp_path):
    """A private folder is entered and its settings are read by its owner alone."""
    folder = Path(folders.make_folder(str(tmp_path), "a.b", 3, None, b"{}"))
    assert folder == tmp_path / "a.b.3"
    assert folder.stat().st_mode & 0o7777 == 0o700
    assert (folder / "settings.json").stat().st_mode & 0o7777 == 0o400
    assert (folder / "settings.json").read_bytes() == b"{}"


def test_leftover_is_set_aside(tmp_path):
    """What an earlier life left under the same name, be it a symbolic link, is moved aside and can be found."""
    (tmp_path / "elsewhere").mkdir()
    labs = Path(folders.make_own_folder(f"{tmp_path}/labs", 0o711))
    (labs / "a.1").symlink_to(tmp_path / "elsewhere")
    folders.make_folder(str(labs), "a", 1, None, b"1")
    folders.make_folder(str(labs), "a", 1, None, b"2")
    assert (labs / "a.1" / "settings.json").read_bytes() == b"2"
    aside, now = folders.list_folders(str(labs))
    assert now == f"{labs}/a.1"
    assert Path(aside, "settings.json").read_bytes() == b"1"
    assert not any((tmp_path / "elsewhere").iterdir())


def test_failure_leaves_no_half_made_folder(tmp_path, monkeypatch):
    """When the disk is full nothing stays behind."""

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", no_space)
    with pytest.raises(OSError, match="No space"):
        folders.make_folder(str(tmp_path), "a", 1, None, b"x")
    assert not any(tmp_path.iterdir())


def run(launch):
    account = launch.account
    identity = {"user": account.uid, "group": account.gid, "extra_groups": account.groups} if account else {}
    return subprocess.run(launch.argv, env=launch.env, cwd=launch.cwd, check=False, umask=launch.umask, **identity)


def fill(folder):
    """What a lab might leave: hidden files, odd names, a link out, a subfolder that its owner cannot write."""
    for name in (".hidden", "..odd", "-rf", "with space\n", "rt/x/y"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "rt" / "x").chmod(0o500)
    folder.chmod(0o300)


def test_removal_empties_the_folder_and_nothing_else(tmp_path):
    """After the removal process the folder is empty, whatever was in it, and what it linked to is untouched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    folder = Path(folders.make_folder(str(tmp_path), "a", 1, None, b"{}"))
    (folder / "link").symlink_to(outside)
    fill(folder)
    assert run(folders.removal(str(folder), None)).returncode == 0
    folder.rmdir()
    assert (outside / "precious").exists()


def test_an_untouched_folder_is_removed_at_once(tmp_path):
    """A folder with nothing but the settings goes without a process; all else stays, and what links lead to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "settings.json").touch()
    assert folders.remove_untouched(folders.make_folder(str(tmp_path), "a", 1, None, b"{}"))
    touched = Path(folders.make_folder(str(tmp_path), "a", 2, None, b"{}"))
    (touched / "precious").touch()
    assert not folders.remove_untouched(str(touched))
    assert [path.name for path in touched.iterdir()] == ["precious"]
    (touched / "settings.json").symlink_to(outside / "settings.json")
    assert not folders.remove_untouched(str(touched))
    (tmp_path / "a.3").symlink_to(outside)
    assert not folders.remove_untouched(str(tmp_path / "a.3"))
    assert (outside / "settings.json").exists()


@pytest.mark.root
def test_handed_over_folder_belongs_to_the_user(tmp_path):
    """The instance's user gets folder and settings, and removal runs as that user: it cannot touch what is not hers."""
    nobody = Account("nobody", 65534, 65534, (65534,), "/nonexistent", "/bin/sh")
    for ancestor in (tmp_path, *tmp_path.parents):
        if ancestor.stat().st_mode & 0o011 == 0:
            ancestor.chmod(ancestor.stat().st_mode | 0o011)
    labs = folders.make_own_folder(f"{tmp_path}/labs", 0o711)
    folder = Path(folders.make_folder(labs, "a", 1, nobody, b"{}"))
    for path in (folder, folder / "settings.json"):
        assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "precious").touch()
    (folder / "link").symlink_to(outside)
    fill(folder)
    for path in folder.rglob("*"):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    launch = folders.removal(str(folder), folders.owner_of(str(folder)))
    assert launch.account.uid == 65534
    run(launch)
    assert (outside / "precious").exists()
    folder.rmdir()
