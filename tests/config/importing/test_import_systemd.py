"""Units and drop-ins, as people write them, in jlabd's words."""

import pytest

from jlabd.config.importers.findings import ImportFailedError

UNIT = """
[Unit]
Description=Jupyter Lab of Alice
After=network-online.target
StartLimitBurst=5

[Service]
Type=simple
User=alice
Group=staff
WorkingDirectory=~
Environment="PATH=/srv/venvs/lab/bin:/usr/bin" LANG=C.UTF-8
Environment='GREETING=hello world' COST=10%%
EnvironmentFile=-/etc/default/lab
ExecStartPre=/bin/mkdir -p /home/alice/work
ExecStart=/srv/venvs/lab/bin/jupyter lab \\
    # the port that the proxy knows
    --port=8891 --no-browser \\
    --notebook-dir "/home/alice/my work"
Restart=on-failure
RestartSec=10
TimeoutStopSec=1min 30s
KillSignal=SIGINT
KillMode=mixed
LimitNOFILE=8192:65536
LimitNPROC=100
MemoryMax=4G
MemoryHigh=3G
CPUQuota=200%
TasksMax=512
UMask=0027
NoNewPrivileges=yes
PrivateTmp=true
ProtectSystem=full
Nice=5

[Install]
WantedBy=multi-user.target
"""


def test_unit(files):
    """Every key of a usual unit is carried over, or explained."""
    result = files.one("jupyter.service", UNIT)
    assert result.table["instance"] == {
        "alice": {
            "user": "alice",
            "root_dir": "/home/alice/my work",
            "venv": "/srv/venvs/lab",
            "listen": "127.0.0.1:8891",
            "env": {
                "PATH": "/srv/venvs/lab/bin:/usr/bin",
                "LANG": "C.UTF-8",
                "GREETING": "hello world",
                "COST": "10%",
            },
            "env_file": "/etc/default/lab",
            "umask": "0027",
            "restart": {"policy": "on-failure", "initial": "10s", "give_up_after": 5},
            "stop": {"timeout": "1min 30s"},
            "limits": {
                "open_files": 65536,
                "memory_max": "4G",
                "memory_high": "3G",
                "cpu_quota": "200%",
                "tasks_max": 512,
            },
            "no_new_privileges": True,
            "private_tmp": True,
        }
    }
    assert "leave them behind" in result.why("KillSignal=SIGINT")
    assert "whole tree" in result.why("KillMode=mixed")
    assert "groups of its user" in result.why("Group=staff")
    assert "no other programs" in result.why("ExecStartPre=/bin/mkdir -p /home/alice/work")
    assert "a little more than before" in result.why("ProtectSystem=full")
    assert "jlabd.service" in result.why("After=network-online.target, WantedBy=multi-user.target")


def test_dropins_come_by_name_and_empty_lists(files):
    """Drop-ins count in the order of their names, given or lying beside the unit; an empty value clears a list."""
    files.write("lab.service.d/20-port.conf", "[Service]\nExecStart=\nExecStart=/v2/bin/jupyter-lab --port=9002\n")
    files.write("lab.service.d/10-env.conf", "[Service]\nEnvironment=\nEnvironment=B=2\nUser=bob\n")
    last = files.write("other/lab.service.d/30-last.conf", "[Service]\nEnvironment=C=3\nUser=carol\n")
    unit = "[Service]\nUser=alice\nEnvironment=A=1\nExecStart=/v1/bin/jupyter-lab --port=9001\n"
    result = files.imported({"lab.service": unit}, last)
    assert result.only["user"] == "carol"
    assert result.only["venv"] == "/v2"
    assert result.only["listen"] == "127.0.0.1:9002"
    assert result.only["env"] == {"B": "2", "C": "3"}


def test_template(files):
    """An instance of a template unit fills in %i, and has the drop-ins of the template."""
    files.write("jupyter@.service.d/limit.conf", "[Service]\nMemoryMax=2G\n")
    files.write(
        "jupyter@.service",
        "[Service]\nUser=%i\nWorkingDirectory=/home/%i/notebooks\n"
        "ExecStart=/v/bin/jupyter lab --config=/etc/lab/%i.py\n",
    )
    result = files.imported({}, f"{files.folder}/jupyter@alice.service", f"{files.folder}/jupyter@bob.service")
    assert {name: one["root_dir"] for name, one in result.table["instance"].items()} == {
        "alice": "/home/alice/notebooks",
        "bob": "/home/bob/notebooks",
    }
    assert [one["limits"] for one in result.table["instance"].values()] == [{"memory_max": "2G"}] * 2
    assert result.table["instance"]["bob"]["config_files"] == ["/etc/lab/bob.py"]


def test_template_finds_what_is_enabled(files):
    """A template that is given itself stands for the instances that start at boot."""
    text = "[Service]\nUser=%i\nExecStart=/v/bin/jupyter lab\n"
    files.write("multi-user.target.wants/jupyter@carol.service", text)
    assert list(files.one("jupyter@.service", text).table["instance"]) == ["carol"]


def test_template_without_instances(files):
    """A template of which nobody says whose it is names what to do; --name says it."""
    text = "[Service]\nUser=%i\nExecStart=/v/bin/jupyter lab\n"
    with pytest.raises(ImportFailedError, match=r"is a template: name an instance of it, like .*/jupyter@NAME.service"):
        files.one("jupyter@.service", text)
    assert files.imported({"jupyter@.service": text}, name="bob").only["user"] == "bob"


def test_words_are_systemds(files):
    """Quotes, escapes, $VARIABLES and $$ mean what they mean to systemd; prefixes of the program are explained."""
    text = (
        "[Service]\nUser=alice\nEnvironment=PORT=9003 'OPTS=--no-browser --debug' HASH=x\n"
        r"ExecStart=-+/v/bin/jupyter lab --port=${PORT} $OPTS '--ServerApp.default_url=/lab/tree/a\x20b' "
        "--T.x=$$5 --T.y=%%i --ip=${NOWHERE}"
        "\n"
    )
    result = files.one("lab.service", text)
    assert result.only["listen"] == "127.0.0.1:9003"
    assert result.only["args"] == ["--debug", "--ServerApp.default_url=/lab/tree/a b", "--T.x=$5", "--T.y=%i"]
    assert "rights than its user" in result.why("+ before the program")
    assert "takes a failure for one" in result.why("- before the program")
    assert "write what it comes to" in result.why("--ip=${NOWHERE}")


def test_at_prefix_renames_the_program(files):
    """After @ the second word is only the name that the process gives itself."""
    result = files.one("lab.service", "[Service]\nUser=bob\nExecStart=@/v/bin/python lab -m jupyterlab --port 9004\n")
    assert (result.only["venv"], result.only["listen"]) == ("/v", "127.0.0.1:9004")


def test_home_of_the_manager(files):
    """%h in a system unit is root's home, which is seldom meant; in a user's unit it is hers."""
    text = "[Service]\nUser=alice\nWorkingDirectory=%h/nb\nExecStart=/v/bin/jupyter-lab\n"
    assert files.one("lab.service", text).only["root_dir"] == "/root/nb"
    of_a_user = files.one("home/.config/systemd/user/lab.service", text)
    assert of_a_user.only["root_dir"] == "/home/alice/nb"


def test_specifier_that_nobody_knows(files):
    """A specifier whose value is the machine's is not guessed."""
    result = files.one("lab.service", "[Service]\nUser=bob\nEnvironment=M=%m\nExecStart=/v/bin/jupyter-lab\n")
    assert "env" not in result.only
    assert "%m is not known here" in result.why("Environment=M=%m")


def test_shell_in_a_unit(files):
    """`bash -c` is read as the shell would: the environment that it activates, the folder, the program."""
    text = (
        "[Service]\nUser=alice\nExecStart=/bin/bash -lc 'source /opt/conda/bin/activate lab && cd ~/work && "
        "exec jupyter lab --port=9005'\n"
    )
    result = files.one("lab.service", text)
    assert result.only["venv"] == "/opt/conda/envs/lab"
    assert result.only["root_dir"] == "/home/alice/work"
    assert result.only["listen"] == "127.0.0.1:9005"


def test_output_of_systemctl_cat(files):
    """What `systemctl cat` prints, unit and drop-ins in one, is read too."""
    text = (
        "# /etc/systemd/system/lab.service\n[Service]\nUser=alice\nExecStart=/v/bin/jupyter-lab\n\n"
        "# /etc/systemd/system/lab.service.d/override.conf\n[Service]\nUser=bob\n"
    )
    assert files.one("cat.txt", text).only["user"] == "bob"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[Service]\nExecStart=/v/bin/jupyter-lab 'x\n", ":2: a quotation mark (') is not closed"),
        ("[Service]\nRestart\n", ":2: 'Restart' is neither a [Section] nor KEY=VALUE"),
        ("User=alice\n[Service]\n", ":1: 'User=alice' is neither a [Section] nor KEY=VALUE"),
        ("[Timer]\nOnCalendar=daily\n", "is nothing that can be imported"),
        ("#!/bin/sh\njupyter lab\n", "has the name of a systemd unit, but no [Service]"),
    ],
)
def test_errors_name_the_line(files, text, error):
    """What cannot be read is an error with file and line."""
    with pytest.raises(ImportFailedError) as failed:
        files.one("lab.service", text)
    assert error in str(failed.value)


def test_dropin_alone(files):
    """A drop-in without its unit says which unit is missing."""
    with pytest.raises(ImportFailedError, match=r"is a drop-in of lab\.service, which was not given"):
        files.one("lab.service.d/x.conf", "[Service]\nUser=alice\n")
