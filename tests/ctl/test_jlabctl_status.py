"""`jlabctl status` as a process of its own, and what all commands share: usage, exit codes, quick starts."""

import asyncio
import json
import os
import re
import signal
import socket
import sys

import pytest

from jlabd.control.server import ControlServer
from tests.ctl.command import PIPE, begin, begin_on_terminal, environment, jlabctl, on_terminal, read_until
from tests.shells.control.fakes import FakeSupervisor, short_folder


async def test_status_table(path):
    """Without a terminal the table is plain text of full width, and the exit code says that all is well."""
    code, out, err = await jlabctl(path, "status")
    head, alice, bob = out.decode().splitlines()
    assert (code, err) == (0, "")
    assert " ".join(head.split()) == "NAME STATE SINCE PID USER KERNELS CPU MEMORY RESTARTS URL REASON"
    assert alice.endswith("http://lab.example.com/alice/  ready after 1.2 s")
    assert bob.startswith("bob    ready")


async def test_status_json(path, supervisor):
    """--json is the status document, for programs as for people."""
    code, out, _ = await jlabctl(path, "status", "--json")
    assert (code, json.loads(out)) == (0, supervisor.document())
    code, out, _ = await jlabctl(path, "status", "bob", "--json")
    assert [instance["name"] for instance in json.loads(out)["instances"]] == ["bob"]
    code, shown = await on_terminal(path, "status", "--json")
    assert json.loads(shown) == supervisor.document()


async def test_status_not_as_desired(path, supervisor):
    """Exit code 3 when one that should run does not; asking for another one is not concerned."""
    supervisor.become("bob", "failed", "no JupyterLab in /opt/x")
    assert (await jlabctl(path, "status"))[0] == 3
    assert (await jlabctl(path, "status", "--json"))[0] == 3
    assert (await jlabctl(path, "status", "alice"))[0] == 0


async def test_unknown_instance(path):
    """Exit code 4 and the nearest name for one that does not exist."""
    for words in (("status", "alcie"), ("stop", "alcie"), ("logs", "alcie"), ("url", "alcie")):
        code, out, err = await jlabctl(path, *words)
        assert (code, out, err) == (4, b"", "jlabctl: no instance 'alcie'; did you mean 'alice'?\n")


@pytest.mark.parametrize("words", [("status",), ("stop", "alice"), ("logs", "alice", "-f"), ("events",), ("reload",)])
async def test_no_daemon(words):
    """Exit code 4 without a daemon, with what to do, whether its socket is missing or left over."""
    with short_folder() as folder:
        path = f"{folder}/control.sock"
        code, out, err = await jlabctl(path, *words)
        assert (code, out, err) == (4, b"", f"jlabctl: jlabd is not running (no {path}): systemctl start jlabd\n")
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(path)
        code, out, err = await jlabctl(path, *words)
        assert (code, out) == (4, b"")
        assert err == f"jlabctl: jlabd is not running (nobody answers at {path}): systemctl start jlabd\n"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 200 OK\r\n", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.0 x y\r\n\r\n"])
async def test_daemon_that_answers_nonsense(answer):
    """Whatever is at the other end, the command ends with a sentence."""

    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    with short_folder() as folder:
        async with await asyncio.start_unix_server(talk, f"{folder}/control.sock"):
            code, _, err = await jlabctl(f"{folder}/control.sock", "status")
    assert code == 4
    assert err.startswith("jlabctl: ")
    assert err.count("\n") == 1


async def test_socket_option_wins_over_environment(path):
    """--socket is used before JLABD_SOCKET."""
    assert (await jlabctl("/nowhere", "--socket", path, "status"))[0] == 0


async def test_terminal_gets_colours_and_its_width(path):
    """On a terminal states are coloured and lines fit."""
    code, shown = await on_terminal(path, "status", columns=90)
    assert code == 0
    assert "\x1b[32mready" in shown
    assert max(len(line) for line in re.sub(r"\x1b\[\d+m", "", shown).splitlines()) <= 90


@pytest.mark.parametrize(("words", "more"), [(("--no-color", "status"), {}), (("status",), {"NO_COLOR": "1"})])
async def test_no_colours(path, words, more):
    """--no-color and NO_COLOR are honoured."""
    assert "\x1b" not in (await on_terminal(path, *words, **more))[1]


async def test_daemons_own_problems_are_told(path, supervisor):
    """What is wrong with configuration or nginx is said beside the table, on stderr."""
    document = supervisor.document()
    document["nginx"]["error"] = "nginx -t failed"
    supervisor.document = lambda: document
    assert (await jlabctl(path, "status"))[2] == "nginx: nginx -t failed\n"


async def test_watch_goes_on_until_ctrl_c(path, supervisor):
    """--watch shows the table again and again; Ctrl-C ends it quietly."""
    process = await begin(path, "status", "--watch")
    await process.stdout.readuntil(b"bob")
    supervisor.become("alice", "unhealthy", "does not answer")
    await process.stdout.readuntil(b"does not answer")
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (130, b"")


async def test_watch_on_a_terminal(supervisor):
    """In place, on a screen of its own that is left again; as much as fits; and while the daemon is away too."""
    many = FakeSupervisor(**{f"lab{n}": "alice" for n in range(40)})
    with short_folder() as folder:
        ours, process = await begin_on_terminal(f"{folder}/control.sock", "status", "--watch", columns=60)
        shown = await read_until(ours, b"jlabd is not running")
        server = ControlServer(f"{folder}/control.sock", many, lambda: "")
        await server.start()
        shown += await read_until(ours, b" more\x1b[K\r\n\x1b[J")
        await server.close()
        shown += await read_until(ours, b"jlabd is not running")
        os.kill(process.pid, signal.SIGINT)
        shown += await read_until(ours, b"\x1b[?1049l")
        assert await asyncio.wait_for(process.wait(), 30) == 130
        os.close(ours)
    assert shown.startswith(b"\x1b[?1049h")
    assert b"40 ready\x1b[K\r\nNAME" in shown
    assert b"lab20 " in shown  # 25 lines: the summary, the head, 21 instances, how many more, the cursor's
    assert b"lab21 " not in shown
    assert "… 19 more".encode() in shown


async def test_watch_leaves_the_screen_when_it_is_ended(path):
    """SIGTERM too brings the terminal back."""
    ours, process = await begin_on_terminal(path, "status", "--watch")
    await read_until(ours, b"bob")
    process.terminate()
    await read_until(ours, b"\x1b[?1049l")
    assert await asyncio.wait_for(process.wait(), 30) == 143
    os.close(ours)


# Usage


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("frobnicate",),
        ("status", "--frob"),
        ("start",),
        ("stop", "alice", "--all"),
        ("stop", "alice", "--timeout", "soon"),
        ("signal", "alice"),
        ("logs",),
        ("logs", "alice", "-n", "-1"),
        ("events", "-n", "many"),
    ],
)
async def test_wrong_usage(path, supervisor, words):
    """A wrong command line is exit code 2, and nothing is asked for."""
    code, out, err = await jlabctl(path, *words)
    assert (code, out) == (2, b"")
    assert "usage: jlabctl" in err
    assert supervisor.asked == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stauts",), "did you mean 'status'?"),
        (("status", "--jsno"), "did you mean '--json'?"),
        (("stop", "alice", "--timout=3"), "did you mean '--timeout'?"),
        (("completion", "bsh"), "did you mean 'bash'?"),
    ],
)
async def test_mistyped(path, words, said):
    """A word that is nearly right gets the right one as a suggestion."""
    code, _, err = await jlabctl(path, *words)
    assert (code, err.splitlines()[-1].endswith(said)) == (2, True)


async def test_help_and_version(path):
    """Help names every command."""
    code, out, _ = await jlabctl(path, "--help")
    assert code == 0
    for command in (
        "status",
        "start",
        "stop",
        "restart",
        "signal",
        "reload",
        "check",
        "logs",
        "events",
        "url",
        "passwd",
    ):
        assert command in out.decode()
    assert (await jlabctl(path, "--version"))[1].startswith(b"jlabctl ")


# Speed

SLOW = "aiohttp pydantic structlog asyncio email http.client argparse json socket re enum dataclasses typing subprocess"

LOOK = """
import sys
from jlabd.ctl.main import main
sys.argv = ["jlabctl", "status", *sys.argv[1:]]
code = main()
print(code, *sorted(set(sys.modules) & set("%s".split())), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [(), ("alice",), ("--json",)])
async def test_status_imports_nothing_slow(path, words):
    """`jlabctl status` shows its table without the modules that would take longer than all the rest."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", LOOK % SLOW, *words, stdout=PIPE, stderr=PIPE, env=environment(path)
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert b"alice" in out
    assert err == b"0\n"
