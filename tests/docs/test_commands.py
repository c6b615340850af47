"""Each command in the documentation is one, and is run: here, or in a test that is named here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jlabd import main as daemon
from jlabd.ctl.options import parser
from tests.ctl.command import jlabctl
from tests.docs.pages import PAGES, TOP, blocks, calls, name, shell_lines
from tests.shells.control.fakes import FakeSupervisor, served

WORDS = {"NAME": "alice", "SIGNAL": "HUP", "PATH": "/x", "FILE": "/x", "FILE…": "/x", "COMMAND": "status"}
"""What a reader puts in the place of a word in capitals."""

RUNS = {
    "make demo": ("tests/demo/test_demo.py", '"-m", "jlabd.demo"'),
    "make test": (".ci/run", "exec make test"),
    'make test ARGS="-k url"': (".ci/run", "exec make test"),
    "make torture": ("tests/system/test_torture.py", "JLABD_TORTURE_S"),
    "make lint": ("tests/house/test_style.py", "ruff"),
    "make pages": ("tests/house/test_pages.py", "packaging/pages.py"),
    "make rpm": ("tests/packaging/repository.py", "packaging/rpm.py"),
    "make release VERSION=1.2.3": ("tests/packaging/test_release.py", "copy.release(VERSION"),
    "dnf install ./dist/jlabd-*.el9.x86_64.rpm ./dist/jlabd-selinux-*.el9.noarch.rpm nginx": (
        "tests/packaging/test_way.py",
        'el9.dnf("install", "jlabd")',
    ),
    "dnf install jlabd": ("tests/packaging/test_way.py", 'machine.dnf("install", "jlabd")'),
    "systemctl enable --now nginx jlabd": ("tests/packaging/test_way.py", 'systemctl("enable", "--now", "jlabd")'),
    "python3 -m venv /opt/jlabd": ("tests/packaging/test_pip.py", '"-m", "venv", PLACE'),
    "/opt/jlabd/bin/pip install jlabd-*.whl": ("tests/packaging/test_pip.py", '"install", "--quiet", "--no-index"'),
    "python3 -m venv /opt/jupyterlab": ("tests/setup/uservenv.sh", "packaging/venv.py"),
    "python3.12 -m venv /opt/jupyterlab": ("tests/setup/uservenv.sh", "packaging/venv.py"),
    "/opt/jupyterlab/bin/pip install jupyterlab": ("packaging/lock/demo.txt", "jupyterlab=="),
}
"""Command → the file that runs it (or what it comes to), and words of that file. Calls of ours are run below."""

NOT_RUN = {
    "make bench": "takes half an hour of a machine that has nothing else to do",
    "make lock": "asks an index for the newest; tests/house/test_locks.py sees whether the outcome fits",
    "make screenshots": "tests/house/test_readme.py sees whether the pictures are of the page as it is",
    "make clean": "would take away what the tests run in",
}
"""Targets of which only `make --dry-run` is looked at, and why."""

NEEDS_MORE = {"install-unit": "tests/install/test_install_unit.py", "add": "tests/ctl/test_jlabctl_amend.py"}
NEEDS_MORE |= {"remove": "tests/ctl/test_jlabctl_amend.py", "import": "tests/ctl/test_jlabctl_import.py"}
NEEDS_MORE |= {"doctor": "tests/ctl/test_jlabctl_commands.py", "check": "tests/ctl/test_jlabctl_commands.py"}
NEEDS_MORE |= {"passwd": "tests/ctl/test_jlabctl_commands.py", "--socket": "tests/ctl/test_jlabctl_status.py"}
"""Commands that need more than a daemon that answers, and where they are run."""

CALLS = sorted({call for page in PAGES for call in calls(page)})


def argv(call):
    """Return the words of a call as a reader would type them, without the program and what a shell would make of it."""
    words = re.split(r" [|>;] ?", call)[0].replace("[NAME]", "NAME").split()[1:]
    return [WORDS.get(word.rstrip("]"), word) for word in words]


def is_whole(call):
    """Tell a call from the mere name of a program, and from `check`, `doctor`: names of commands in a list."""
    return bool(argv(call))


@pytest.mark.parametrize("call", [call for call in CALLS if is_whole(call)])
def test_call_is_understood(call):
    """The programs' own parsers understand the call: command, options and how many arguments it has."""
    words = argv(call)
    understands = daemon.parser() if call.startswith("jlabd") else parser("/run/jlabd/control.sock")
    if len(words) == 1 and not words[0].startswith("-"):
        words.append("--help")  # `jlabctl start`: the name of a command, without what it is to start
    if words[-1] not in ("--help", "--version"):
        understands.parse_args(words)
        return
    with pytest.raises(SystemExit) as ended:
        understands.parse_args(words)
    assert ended.value.code == 0


def test_a_wrong_call_is_seen():
    """The test above can fail."""
    for words in (["statsu"], ["status", "--wtach"], ["url"], ["completion", "csh"]):
        with pytest.raises(SystemExit) as ended:
            parser("").parse_args(words)
        assert ended.value.code == 2


async def test_calls_are_answered():
    """Every call that asks a running daemon succeeds, with instances of the names that it uses."""
    shown = {" ".join(argv(call)): argv(call) for call in CALLS if call.startswith("jlabctl ") and is_whole(call)}
    asked = []
    async with served(FakeSupervisor(**dict.fromkeys(("alice", "bob", "ann"), "ann"))) as path:
        for words in shown.values():
            command = words[0]
            if command in NEEDS_MORE or "-f" in words or (len(words) == 1 and command not in ("status", "events")):
                continue
            code, _, said = await jlabctl(path, *words)
            assert (code, said) == (0, ""), words
            asked.append(words)
    assert len(asked) >= 8


@pytest.mark.parametrize("command", NEEDS_MORE)
def test_other_calls_are_run_elsewhere(command):
    """The other commands are run by the tests that are named above."""
    assert re.search(rf'"{command}"|`jlabctl {command}|\b{command}\(', (TOP / NEEDS_MORE[command]).read_text())


def others():
    """Yield page and command for each line of a shell block that is neither a test's own block nor ours."""
    for page in PAGES:
        for more, text in blocks(page, "sh"):
            if not more.startswith(("run=", "title=")):
                for line in shell_lines(text):
                    if not re.match(r"(sudo )?(\S+/bin/)?jlab(ctl|d)\b", line):
                        yield pytest.param(line, id=f"{name(page)}: {line}")


@pytest.mark.parametrize("line", [*others()])
def test_other_commands_are_run(line):
    """Each other command is run by a test, and the files of that still say so."""
    if line.startswith("make "):
        command = ["make", "--dry-run", *line.split()[1:2]]
        done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    if line in NOT_RUN:
        return
    path, words = RUNS[line]
    assert words in (TOP / path).read_text()


def guides():
    """Yield page and name of each block that says `run=NAME`."""
    for page in PAGES:
        for kind in ("sh", "python"):
            for more, _ in blocks(page, kind):
                if more.startswith("run="):
                    yield pytest.param(page, more.removeprefix("run="), id=f"{name(page)}-{more}")


@pytest.mark.parametrize(("page", "block"), [*guides()])
def test_blocks_are_run(page, block):
    """For each block that says so there is a test that takes it from the page and runs it."""
    tests = [path.read_text() for path in TOP.glob("tests/**/test_*.py") if path != Path(__file__)]
    taking = [text for text in tests if re.search(rf'Guide\("(\.\./)?{page.name}"\)', text)]
    assert [text for text in taking if f'"{block}"' in text and "GUIDE.commands" in text] != []


def test_commands_of_the_manual_are_mentioned():
    """Each command of jlabctl is on a page."""
    done = subprocess.run(
        [sys.executable, "-m", "jlabd.ctl.main", "--help"], capture_output=True, text=True, check=True, cwd=TOP
    )
    commands = re.findall(r"^    ([a-z-]+)  ", done.stdout, re.MULTILINE)
    text = " ".join(page.read_text() for page in PAGES)
    assert len(commands) > 10
    assert [command for command in commands if not re.search(rf"`{command}[ `]|jlabctl {command}\b", text)] == []
