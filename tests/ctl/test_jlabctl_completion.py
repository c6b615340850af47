"""`jlabctl completion`: the scripts in real shells, with a daemon whose instances they find."""

import asyncio
import os
import shutil
import subprocess
import sys

import pytest

from tests.ctl.command import COMMAND, TOP, environment, jlabctl
from tests.shells.control.fakes import FakeSupervisor, served

HOSTILE = "x$(touch hit)"

BASH = r"""
source "$1"
shift
COMP_LINE="$*"
COMP_POINT=${#COMP_LINE}
complete -p jlabctl >/dev/null || exit 9
compopt() { :; }  # only within a completion that readline asked for
_jlabctl
printf '%s\n' "${COMPREPLY[@]}"
"""

ZSH = r"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1=; PATH='"$PATH"'; autoload -U compinit; compinit -u -D; source '"$1"'; bindkey "^I" complete-word'
zpty -w z 'zstyle ":completion:*" list-colors ""; zstyle ":completion:*" format ""; setopt list_rows_first; print READY'
zpty -r z _ '*READY*READY*'
zpty -w -n z "$2"$'\t\t'
zpty -r z shown "*$3*"
print -r -- $shown
zpty -d z
"""


@pytest.fixture
def supervisor():
    return FakeSupervisor(alice="alice", bob="bob", **{"al@ma": "alice", HOSTILE: "bob"})


@pytest.fixture
async def path(supervisor):
    async with served(supervisor) as path:
        yield path


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Return a folder with the three scripts, and a `jlabctl` for them to call."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [*COMMAND, "completion", shell], cwd=TOP, capture_output=True, text=True, check=True, stdin=None
        )
        (folder / shell).write_text(done.stdout)
    program = folder / "jlabctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m jlabd.ctl.main "$@"\n')
    program.chmod(0o755)
    return folder


async def run(path, scripts, *argv):
    """Run a shell to its end, in the folder of the scripts, and return what it printed."""
    env = environment(path, PATH=f"{scripts}:{os.environ['PATH']}", TERM="dumb", HOME=str(scripts))
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env, cwd=scripts
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err.decode()) == (0, "")
    assert not (scripts / "hit").exists()
    return out.decode()


async def bash(path, scripts, line):
    """Return what bash offers at the end of a line."""
    return (await run(path, scripts, "bash", "-uc", BASH, "bash", str(scripts / "bash"), line)).split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("jlabctl st", ["status", "start", "stop"]),
        ("jlabctl status --j", ["--json"]),
        ("jlabctl start al", ["alice", "al@ma"]),
        ("jlabctl start alice b", ["bob"]),
        ("jlabctl start al@", ["ma"]),
        ("jlabctl logs -n 5 ", ["alice", "bob", "al@ma"]),
        ("jlabctl logs bob ", []),
        ("jlabctl logs -n ", []),
        ("jlabctl signal bob H", ["HUP"]),
        ("jlabctl completion ", ["bash", "zsh", "fish"]),
        ("jlabctl add a", []),
        ("jlabctl add a --user nobod", ["nobody"]),
        ("jlabctl check /etc/host", ["/etc/hostname", "/etc/hosts"]),
        ("jlabctl remove --config=/etc/hosts a", ["alice", "al@ma"]),
        ("jlabctl remove --config=/etc/host", ["/etc/hostname", "/etc/hosts"]),
        ("jlabctl --socket /nowhere start ", []),
        ("jlabctl --no-color res", ["restart"]),
    ],
)
async def test_bash(path, scripts, line, offered):
    """Commands, options, instances that there are now, files, accounts; and nothing that another name would run."""
    found = await bash(path, scripts, line)
    assert sorted(name for name in found if name in offered) == sorted(offered)
    assert len(found) == len(offered) or "/etc/" in line


async def test_bash_asks_the_socket_that_the_line_names(path, scripts):
    """--socket on the line counts, not that of the environment."""
    assert await bash("/nowhere", scripts, f"jlabctl --socket {path} stop b") == ["bob"]
    assert await bash("/nowhere", scripts, "jlabctl stop b") == []


@pytest.mark.skipif(not shutil.which("fish"), reason="NO FISH: apt install fish")
async def test_fish(path, scripts):
    """fish offers the same."""

    async def offered(line):
        text = await run(path, scripts, "fish", "--no-config", "-c", f"source fish; complete -C '{line}'")
        return {found.partition("\t")[0] for found in text.splitlines()}

    assert await offered("jlabctl st") == {"status", "start", "stop"}
    assert await offered("jlabctl start al") == {"alice", "al@ma"}
    assert await offered("jlabctl status --js") == {"--json"}
    assert "/etc/hosts" in await offered("jlabctl check /etc/host")
    assert await offered(f"jlabctl --socket {path} stop b") == {"bob"}


@pytest.mark.skipif(not shutil.which("zsh"), reason="NO ZSH: apt install zsh")
@pytest.mark.parametrize(
    ("line", "shown"), [("jlabctl stat", "jlabctl status "), ("jlabctl stop b", "jlabctl stop bob ")]
)
async def test_zsh(path, scripts, line, shown):
    """zsh offers the same."""
    assert shown in await run(path, scripts, "zsh", "-f", "-c", ZSH, "zsh", "zsh", line, shown)


async def test_names_of_whoever_answers_are_harmless(path):
    """A name that a shell would act on is not told; without a daemon there are none, silently."""
    assert await jlabctl(path, "completion", "names") == (0, b"alice\nbob\nal@ma\n", "")
    assert await jlabctl("/nowhere", "completion", "names") == (0, b"", "")
