"""Supervisor programs, as people write them, in jlabd's words."""

import pytest

from jlabd.config.importers.findings import ImportFailedError

PROGRAM = """
[program:jupyter-alice]
command = /srv/venvs/lab/bin/jupyter lab --no-browser --ip=127.0.0.1 --port=8890 ; the lab
directory = /home/alice/work
user = alice
autostart = false
autorestart = unexpected
startsecs = 5
startretries = 10
stopwaitsecs = 30
stopsignal = INT
stopasgroup = true
killasgroup = true
priority = 100
umask = 027
environment = LANG="de_DE.UTF-8", OPENBLAS_NUM_THREADS='2',
    PROXY="http://proxy:3128/?a=1,b=2"
stdout_logfile = /var/log/jupyter/%(program_name)s.log
stdout_logfile_maxbytes = 20MB
stdout_logfile_backups = 3
redirect_stderr = true
"""


def test_program(files):
    """Every key of a usual program is carried over, or explained."""
    result = files.one("jupyter.ini", PROGRAM)
    assert result.table["instance"] == {
        "alice": {
            "user": "alice",
            "root_dir": "/home/alice/work",
            "venv": "/srv/venvs/lab",
            "listen": "127.0.0.1:8890",
            "env": {
                "LANG": "de_DE.UTF-8",
                "OPENBLAS_NUM_THREADS": "2",
                "PROXY": "http://proxy:3128/?a=1,b=2",
            },
            "umask": "0027",
            "autostart": False,
            "restart": {"policy": "on-failure", "give_up_after": 11},
            "stop": {"timeout": "30s"},
            "log": {"max_size": "20M", "keep": 3},
        }
    }
    assert "leave them behind" in result.why("stopsignal = INT")
    assert "whole tree" in result.why("stopasgroup = true, killasgroup = true")
    assert "answers" in result.why("startsecs = 5")
    assert "jlabctl logs" in result.why("stdout_logfile = /var/log/jupyter/jupyter-alice.log")
    assert "side by side" in result.why("priority = 100")
    assert "never opens a browser" in result.why("--no-browser")


def test_places_name_file_and_line(files):
    """A remark says where the thing stands that it is about."""
    result = files.one("jupyter.ini", PROGRAM)
    assert f"{files.folder}/jupyter.ini:11: stopsignal = INT" in result.comments


def test_several_processes(files):
    """numprocs becomes one instance per process, with its own name and port."""
    text = """
[program:lab]
process_name = %(program_name)s_%(process_num)02d
numprocs = 3
numprocs_start = 1
user = alice
directory = /home/alice/%(process_num)d
command = /srv/lab/bin/jupyter-lab --port 889%(process_num)s --ServerApp.base_url=/lab%(process_num)d/
"""
    instances = files.one("lab.conf", text).table["instance"]
    assert list(instances) == ["lab_01", "lab_02", "lab_03"]
    assert [one["root_dir"] for one in instances.values()] == [f"/home/alice/{n}" for n in (1, 2, 3)]
    assert [one["listen"] for one in instances.values()] == [f"127.0.0.1:889{n}" for n in (1, 2, 3)]
    assert [one["base_url"] for one in instances.values()] == [f"/lab{n}/" for n in (1, 2, 3)]


def test_includes_are_followed_once(files):
    """[include] files are read relative to the file, also in a circle, and other programs are left alone."""
    main = "[supervisord]\nenvironment=TZ=UTC\nminfds=4096\n[include]\nfiles = conf.d/*.ini missing/*.ini\n"
    one = "[program:one]\nuser=alice\ncommand=/srv/lab/bin/python -m jupyterlab\n"
    two = "[include]\nfiles = ../supervisord.conf *.ini\n[program:redis]\ncommand=/usr/bin/redis-server\n"
    two += "[group:labs]\nprograms=one\n"
    files.write("conf.d/one.ini", one)
    files.write("conf.d/two.ini", two)
    result = files.one("supervisord.conf", main)
    assert list(result.table["instance"]) == ["one"]
    assert "no such file" in result.why("missing/*.ini")
    assert "redis-server is another program" in result.why("redis")
    assert "instances only" in result.why("[group:labs]")


def test_common_settings_count_less(files):
    """What [supervisord] says counts where the program says nothing."""
    common = "[supervisord]\nenvironment=TZ=UTC,A=1\nminfds=4096\n"
    program = "[program:x]\nuser=bob\ncommand=/v/bin/jupyter-lab\nenvironment=A=2\n"
    result = files.one("s.conf", common + program)
    assert result.only["env"] == {"TZ": "UTC", "A": "2"}
    assert result.only["limits"] == {"open_files": 4096}


def test_unknown_expansions_are_named(files):
    """What comes from Supervisor's own environment cannot be known; the rest of the command counts."""
    command = "/v/bin/jupyter-lab --notebook-dir=%(here)s/nb --port=%(ENV_PORT)s --ServerApp.base_url=%(ENV_URL)s"
    text = f"[program:x]\nuser=alice\ndirectory=%(ENV_WORK)s\ncommand={command}\n"
    result = files.one("x.ini", text)
    assert result.only["root_dir"] == f"{files.folder}/nb"
    assert "listen" not in result.only
    assert "base_url" not in result.only
    assert "not known here" in result.why("--port=%(ENV_PORT)s, --ServerApp.base_url=%(ENV_URL)s")
    assert "%(ENV_WORK)s comes from elsewhere" in result.why("directory = %(ENV_WORK)s")


def test_root_is_not_copied(files):
    """A program without a user ran as root: nothing runs before somebody chose an account."""
    result = files.one("x.ini", "[program:x]\ncommand=/v/bin/jupyter-lab --allow-root\n")
    assert result.only["user"] == "CHANGE-ME"
    assert "allow_root" not in result.only
    assert "whole machine" in result.why("--allow-root")
    assert "whole machine" in result.why("no user")


def test_user_is_guessed_from_the_home(files):
    """Without a user the home that the program works in says whose it is, and that it was guessed."""
    result = files.one("x.ini", "[program:x]\ndirectory=/home/bob/nb\ncommand=/v/bin/jupyter-lab\n")
    assert result.only["user"] == "bob"
    assert 'user = "bob"  # guessed from /home/bob/nb' in result.text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[program:x]\nuser alice\n", ":2: 'user alice' is neither a [section] nor KEY = VALUE"),
        ("[program:x]\ncommand=jupyter lab 'x\n", ":2: a quotation mark in the command is not closed"),
        ("[program:x]\nnumprocs=many\n", ":2: numprocs = many is not a number"),
        ("[program:x]\nnumprocs=100000\n", ":2: 100000 processes of one program are not imported"),
        ("[program:x]\ncommand=/usr/bin/redis-server\n", "no lab was found"),
    ],
)
def test_errors_name_the_line(files, text, error):
    """What cannot be read is an error with file and line."""
    with pytest.raises(ImportFailedError) as failed:
        files.one("x.ini", text)
    assert error in str(failed.value)


@pytest.mark.parametrize("digits", ["99999999999", "9" * 5000])
def test_widths_make_no_giants(files, digits):
    """A width in an expansion is taken as Supervisor's users mean it, not as a way to fill the memory."""
    result = files.one("x.ini", f"[program:x]\nuser=alice\ncommand=/v/bin/jupyter-lab --x=%(process_num){digits}d\n")
    assert len(result.text) < 20_000
