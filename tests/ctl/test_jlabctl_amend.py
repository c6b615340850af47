"""`jlabctl add` and `remove` as processes of their own, on a file, with and without a daemon."""

import os
import pwd
import stat
import tomllib

import pytest
from argon2 import PasswordHasher

from tests.ctl.command import jlabctl

ROOT = os.geteuid() == 0
ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def config(tmp_path):
    """A configuration file with a mode of its own."""
    path = tmp_path / "jlabd.toml"
    path.write_text('# ours\n[daemon]\ninclude = ""\n\n# for all\n[defaults]\nallow_root = true\n')
    path.chmod(0o640)
    return path


def instances(config):
    """Return what the file says of instances."""
    return tomllib.loads(config.read_text()).get("instance", {})


async def test_add_and_remove(config):
    """An instance comes and goes; the rest of the file, its mode, and what to do next."""
    before = config.read_text()
    words = ("add", "lab", "--config", str(config), "--user", ME, "--on-demand", "--no-autostart")
    code, out, err = await jlabctl("/nowhere", *words, "--listen", "8888", "--memory-max", "4G", "--set", "log.keep=2")
    assert (code, err) == (0, "")
    assert out.decode() == f"lab was added at {config}:9\nNow: systemctl start jlabd\n"
    assert instances(config)["lab"] == {
        "user": ME,
        "listen": 8888,
        "on_demand": True,
        "autostart": False,
        "limits": {"memory_max": "4G"},
        "log": {"keep": 2},
    }
    assert config.read_text().startswith(before)
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    code, out, err = await jlabctl("/nowhere", "remove", "lab", "--config", str(config))
    assert (code, out.decode(), err) == (0, f"lab was removed from {config}:9\nNow: systemctl start jlabd\n", "")
    assert config.read_text() == before


async def test_the_running_daemons_file_and_reload(path, supervisor, config, tmp_path):
    """The daemon says which file it reads; --reload has it read again, and shows what that changed."""
    document = supervisor.document()
    document["config"]["path"] = str(config)
    supervisor.document = lambda: document
    code, out, _ = await jlabctl(path, "add", "lab", "--user", ME)
    assert (code, out.decode().splitlines()[-1]) == (0, "Now: jlabctl reload")
    code, out, _ = await jlabctl(path, "remove", "lab", "--reload")
    assert (code, supervisor.asked[0][:2]) == (0, ("reload", False))
    assert out.decode().startswith(f"lab was removed from {config}:9\nadded: dora\n")


async def test_a_password_that_nobody_sees(config):
    """The password goes in as a hash, and neither is ever in a command line."""
    words = ("add", "lab", "--config", str(config), "--user", ME, "--stdin")
    assert (await jlabctl("/nowhere", *words, stdin=b"secret\n"))[0] == 0
    password_hash = instances(config)["lab"]["password_hash"]
    assert PasswordHasher().verify(password_hash.removeprefix("argon2:"), "secret")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "lab", "--set", "usr=x"), 1, "instance.lab.usr: is unknown, did you mean user?"),
        (("add", "lab", "--set", "user"), 2, "write KEY=VALUE"),
        (("add", "lab", "--set", "umask=0022", "--umask", "0027"), 2, "umask is set twice"),
        (("add", "lab", "--set", "umask.x=1", "--umask", "0027"), 2, "umask is set to a value already"),
        (("add", "lab", "--venv", ""), 2, "--venv is empty"),
        (("add", "../x", "--user", ME), 1, "cannot be a name"),
        (("add", "lab", "--server-name", "a;b", "--user", ME), 1, "server_name"),
        (("remove", "lab"), 1, "no file has a table [instance.lab]"),
    ],
)
async def test_refused(config, words, code, said):
    """What is wrong is said, and the file stays as it was."""
    before = config.stat().st_mtime_ns
    result, out, err = await jlabctl("/nowhere", words[0], "--config", str(config), *words[1:])
    assert (result, out) == (code, b"")
    assert said in err
    assert err.endswith("jlabctl: nothing was changed\n") or code == 2
    assert config.stat().st_mtime_ns == before


async def test_no_file(tmp_path):
    """A file that is not there is not made."""
    code, _, err = await jlabctl("/nowhere", "add", "lab", "--config", str(tmp_path / "no.toml"))
    assert (code, err) == (1, f"jlabctl: {tmp_path}/no.toml: No such file or directory; nothing was changed\n")


@pytest.mark.root
async def test_the_account_of_the_same_name(config):
    """For root, who has to name an account, the one called like the instance is taken; [defaults] wins."""
    assert (await jlabctl("/nowhere", "add", "nobody", "--config", str(config)))[0] == 0
    assert instances(config)["nobody"] == {"user": "nobody"}
    code, _, err = await jlabctl("/nowhere", "add", "nosuchuser", "--config", str(config))
    assert (code, "user: is missing" in err) == (1, True)
    config.write_text(config.read_text() + "[template.x]\nusers = []\n[instance.y]\nuser = 'daemon'\n")
    config.write_text(config.read_text().replace("allow_root = true", "user = 'daemon'"))
    assert (await jlabctl("/nowhere", "add", "bin", "--config", str(config)))[0] == 0
    assert instances(config)["bin"] == {}


@pytest.mark.root
async def test_root_does_not_write_where_others_do(config, tmp_path):
    """In a folder that somebody else controls root changes nothing."""
    os.chown(tmp_path, 65534, 65534)
    code, _, err = await jlabctl("/nowhere", "add", "nobody", "--config", str(config))
    assert (code, "which others than root control" in err) == (1, True)
    assert instances(config) == {}
