"""Jupyter's configuration files, read without running them."""

import os

import pytest

from jlabd.config.importers import pyconfig
from jlabd.config.importers.findings import Given, ImportFailedError
from tests.config.importing.given import HASH

CONFIG = f"""
# Configuration file for lab.
import os
from pathlib import Path

c = get_config()  #noqa
HOME = os.path.expanduser('~')
c.ServerApp.ip = '*'
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.allow_root = True
c.ServerApp.allow_remote_access = True
c.ServerApp.root_dir = os.path.join(HOME, "notebooks")
c.ServerApp.base_url = '/alice'
c.PasswordIdentityProvider.hashed_password = u'{HASH}'
c.IdentityProvider.token = ''
c.ServerApp.allow_origin = '*'
c.ServerApp.disable_check_xsrf = True
c.ServerApp.certfile = '/etc/ssl/lab.pem'
c.ServerApp.shutdown_no_activity_timeout = 7200
c.MappingKernelManager.cull_idle_timeout = 3600
c.MappingKernelManager.cull_busy = True
c.FileContentsManager.delete_to_trash = False
c.ServerApp.terminado_settings = {{'shell_command': ['/bin/bash', '-l']}}
c.GitHubConfig.access_token = 'ghp_secret'
c.ContentsManager.pre_save_hook = lambda **kw: None
if os.path.exists('/data'):
    c.ServerApp.extra_static_paths = ['/data']
"""


def test_config(files):
    """Literals and simple expressions are carried over; what is unsafe is explained; code becomes a remark."""
    result = files.one("alice/.jupyter/jupyter_lab_config.py", CONFIG)
    assert result.only == {
        "user": "CHANGE-ME",
        "root_dir": "/home/CHANGE-ME/notebooks",
        "base_url": "/alice/",
        "password_hash": HASH,
        "args": [
            "--FileContentsManager.delete_to_trash=False",
            "--ServerApp.terminado_settings={'shell_command': ['/bin/bash', '-l']}",
        ],
        "idle": {"stop_after": 7200, "cull_kernels_after": 3600},
    }
    assert "private unix socket" in result.why("ip = '*'")
    assert "whole machine" in result.why("ServerApp.allow_root = True")
    assert "other web sites" in result.why("ServerApp.allow_origin = '*'")
    assert "guard" in result.why("ServerApp.disable_check_xsrf = True")
    assert "nginx speaks TLS" in result.why("ServerApp.certfile")
    assert "a kernel that computes" in result.why("MappingKernelManager.cull_busy = True")
    assert "makes a token" in result.why("IdentityProvider.token = ''")
    code = ":27,28: c.ContentsManager.pre_save_hook = lambda **kw: None, if os.path.exists('/data'): (to line 29)"
    assert "have to be run" in result.why(code)
    assert "read by everybody" in result.why("GitHubConfig.access_token = …")
    assert "ghp_secret" not in result.text
    assert "chmod 600" in result.text


def test_nothing_is_run(files):
    """A file that would do harm is only read."""
    mark = files.folder / "harm"
    text = (
        f"open({str(mark)!r}, 'w')\nc.ServerApp.port = __import__('os').system('touch {mark}')\nc.ServerApp.ip = ''\n"
    )
    files.one("jupyter_lab_config.py", text)
    assert not mark.exists()


def test_owner_is_the_user(files, monkeypatch):
    """A configuration alone: the lab is its owner's."""
    monkeypatch.setattr("jlabd.config.importers.gather._owner", lambda uid: "bob")
    result = files.one(".jupyter/jupyter_lab_config.py", "c.ServerApp.root_dir = os.environ['HOME'] + '/nb'\n")
    assert result.only["root_dir"] == "/home/bob/nb"
    assert 'user = "bob"  # owns the files that were given' in result.text


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'/srv/' + 'lab'", "/srv/lab"),
        ("os.path.expanduser('~/nb')", "/home/alice/nb"),
        ("os.path.join(os.environ['HOME'], 'a', 'b')", "/home/alice/a/b"),
        ("f\"/srv/{os.environ['USER']}\"", "/srv/alice"),
        ("os.environ.get('WORK', '/srv/default')", "/srv/work"),
        ("os.environ.get('MISSING', '/srv/default')", "/srv/default"),
        ("os.getenv('WORK')", "/srv/work"),
        ("str(Path('/srv', 'x'))", "/srv/x"),
        ("folder", "/srv/named"),
    ],
)
def test_expressions(files, expression, value):
    """What people compute in such files without meaning to write a program."""
    files.write("c.py", f"folder = '/srv/named'\nc = get_config()\nc.ServerApp.root_dir = {expression}\n")
    program = "[program:x]\nuser=alice\nenvironment=WORK=/srv/work\ncommand=/v/bin/jupyter-lab --config={folder}/c.py\n"
    assert files.one("x.ini", program).only["root_dir"] == value


def test_password_that_is_computed(files):
    """passwd('…') in the file: the password is not shown, and jlabctl passwd is named."""
    text = "from notebook.auth import passwd\nc.NotebookApp.password = passwd('secret words')\n"
    result = files.one("jupyter_notebook_config.py", text)
    assert "secret words" not in result.text
    assert "jlabctl passwd" in result.why("c.NotebookApp.password = …")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("sha1:67c9e60bb8b6:9ffede0825894254b2e042ea597d771089e11aed", None),
        ("", "everybody who reached the lab is let in"),
        ("secret words", "it is no hash"),
        ("argon2:half", "it is no hash"),
    ],
)
def test_passwords(files, value, words):
    """Hashes of both kinds are carried over; an empty password is explained, one in the clear is not shown."""
    result = files.one("jupyter_notebook_config.py", f"c.NotebookApp.password = {value!r}\n")
    if words is None:
        assert result.only["password_hash"] == value
    else:
        assert "password_hash" not in result.only
        assert words in result.why("NotebookApp.password = ")
        assert not value or value not in result.text


def test_token_is_not_copied(files):
    """A token in the clear stays where it is."""
    result = files.one("jupyter_server_config.py", "c.ServerApp.token = 'deadbeef'\n")
    assert "deadbeef" not in result.text
    assert "token_file" in result.why("ServerApp.token = …")


def test_json(files):
    """jupyter_*_config.json is read too."""
    text = '{\n  "ServerApp": {\n    "root_dir": "/srv/nb",\n    "ip": "*"\n  }\n}\n'
    result = files.one("jupyter_server_config.json", text)
    assert result.only["root_dir"] == "/srv/nb"
    assert f"{files.folder}/jupyter_server_config.json:4: ip = '*'" in result.comments


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("c = get_config()\nc.ServerApp.port = = 1\n", ":2: is not Python"),
        ("c.ServerApp.x = " + "(" * 5000 + ")" * 5000 + "\n", "too "),
        ("c.ServerApp.x = " + "-" * 100_000 + "1\n", "too deeply"),
        ("c.ServerApp.x = a" + ".b" * 100_000 + "\n", "too deeply"),
        ("c.ServerApp.x = " + "'a' + " * 100_000 + "'a'\n", "too deeply"),
        ("c.ServerApp.x = " + "[" * 100 + "]" * 100 + "\nc." + "x" * 2_000_000 + " = 1\n", "far too large"),
    ],
    ids=["syntax", "parentheses", "signs", "dots", "sums", "large"],
)
def test_bombs(files, text, error):
    """What would overflow the parser is an error."""
    with pytest.raises(ImportFailedError) as failed:
        files.one("jupyter_lab_config.py", text)
    assert error in str(failed.value)


@pytest.mark.parametrize(
    "lines",
    [
        ["x = 'aaaaaaaaaa'", *["x = x + x"] * 60, "c.ServerApp.root_dir = x"],
        ["x = ['a']", *["x = [x, x]"] * 60, "c.ServerApp.x = x"],
        ["x = 'a' * 10", "x = 'b'", *(["x = f'{x}{x}{x}'"] * 60), "c.ServerApp.root_dir = x"],
        ["x = 10 ** 10 ** 10", "c.ServerApp.x = x"],
    ],
)
def test_values_that_would_fill_the_memory(lines):
    """Values grow in steps only so far."""
    part = pyconfig.read(Given("/c.py", "\n".join(lines)))
    assert all(len(str(getattr(finding, "value", ""))) < 200_000 for finding in part.findings)
    assert part.findings


def test_deep_json():
    """A deeply nested JSON is an error too."""
    with pytest.raises(ImportFailedError, match="too deeply"):
        pyconfig.read(Given("/c.json", "[" * 200_000))


def test_environment_of_the_command_is_not_asked(files, monkeypatch):
    """Whose shell `jlabctl import` runs in makes no difference."""
    monkeypatch.setitem(os.environ, "LAB_DIR", "/srv/mine")
    result = files.one("jupyter_lab_config.py", "c.ServerApp.root_dir = os.environ['LAB_DIR']\n")
    assert "root_dir" not in result.only
    assert "not known here" in result.why("c.ServerApp.root_dir = os.environ['LAB_DIR']")
