"""The real `jlabctl` as a process of its own, against a daemon made of a fake behind the real control socket."""

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import sys
import termios
from pathlib import Path

import pytest

from tests.shells.control.fakes import PLAN, FakeSupervisor, served, short_folder, until

TOP = Path(__file__).resolve().parents[2]
PIPE = asyncio.subprocess.PIPE
COMMAND = [sys.executable, "-m", "jlabd.ctl.main"]


@pytest.fixture
def supervisor():
    return FakeSupervisor(alice="alice", bob="bob")


@pytest.fixture
async def path(supervisor):
    async with served(supervisor) as path:
        yield path


def environment(path, **more):
    plain = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    return plain | {"JLABD_SOCKET": path, "PYTHONPATH": str(TOP), "PYTHONIOENCODING": "utf-8"} | more


async def begin(path, *words, stdin=asyncio.subprocess.DEVNULL, **more):
    return await asyncio.create_subprocess_exec(
        *COMMAND, *words, stdin=stdin, stdout=PIPE, stderr=PIPE, env=environment(path, **more)
    )


async def jlabctl(path, *words, stdin=None, **more):
    """Run the command; return (exit code, stdout, stderr)."""
    process = await begin(path, *words, stdin=PIPE, **more)
    out, err = await asyncio.wait_for(process.communicate(stdin or b""), 60)
    return process.returncode, out, err.decode()


async def on_terminal(path, *words, columns=120, answers=(), **more):
    """Run the command on a terminal of its own, answer its prompts; return (exit code, what it showed)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 25, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *words,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(path, TERM="xterm", **more),
        preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
    )
    os.close(theirs)
    shown = await asyncio.wait_for(asyncio.to_thread(_talk, ours, list(answers)), 60)
    os.close(ours)
    return await asyncio.wait_for(process.wait(), 60), shown.decode().replace("\r\n", "\n")


def _talk(descriptor, answers):
    """Read until the last writer is gone, which is EIO; answer when a prompt stands there."""
    shown = b""
    while select.select([descriptor], [], [], 30)[0]:
        try:
            shown += os.read(descriptor, 65536)
        except OSError:
            break
        if answers and shown.endswith(b": "):
            os.write(descriptor, answers.pop(0))
    return shown


# status


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


# start, stop, restart


async def test_start_stop_restart(path, supervisor):
    """The commands wait until it is so, and are quiet without a terminal."""
    for verb in ("stop", "start", "restart"):
        assert await jlabctl(path, verb, "alice", "bob") == (0, b"", "")
    assert [asked[:2] for asked in supervisor.asked[:2]] == [("stop", "alice"), ("stop", "bob")]


async def test_all(path, supervisor):
    """--all means all."""
    assert (await jlabctl(path, "stop", "--all"))[0] == 0
    assert [asked[1] for asked in supervisor.asked] == ["alice", "bob"]


async def test_progress_on_a_terminal(path):
    """A person sees how it goes."""
    code, shown = await on_terminal(path, "stop", "alice")
    assert (code, shown) == (0, "alice: stopping: stop requested by root\nalice: stopped: so it is\n")


async def test_failure(path, supervisor):
    """An instance that does not get there is exit code 1, with its reason."""
    supervisor.held = {"alice"}
    process = await begin(path, "start", "alice")
    await until(lambda: supervisor.settling)
    supervisor.become("alice", "failed", "no JupyterLab in /opt/x\x1b[31m")
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (1, b"jlabctl: start alice: failed: no JupyterLab in /opt/x\\x1b[31m\n")


async def test_timeout(path, supervisor):
    """--timeout ends the waiting with exit code 1."""
    supervisor.held = {"alice"}
    code, _, err = await jlabctl(path, "stop", "alice", "--timeout", "200ms")
    assert code == 1
    assert "not stopped within 0.2 s, it is stopping" in err


async def test_no_wait(path, supervisor):
    """--no-wait asks and returns."""
    supervisor.held = {"alice"}
    assert (await jlabctl(path, "stop", "alice", "--no-wait"))[0] == 0
    assert [asked[:2] for asked in supervisor.asked] == [("stop", "alice")]


async def test_ctrl_c_while_waiting(path, supervisor):
    """Ctrl-C is quiet and exits with 130; what was asked for goes on."""
    supervisor.held = {"alice"}
    process = await begin(path, "stop", "alice")
    await until(lambda: supervisor.settling)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, out, err) == (130, b"", b"")
    await until(lambda: not supervisor.settling)
    assert supervisor.instances["alice"].actual == "stopping"


async def test_daemon_dies_while_it_is_waited_for(supervisor):
    """A daemon that goes away in the middle is exit code 4, not a success."""
    supervisor.held = {"alice"}
    async with served(supervisor) as path:
        process = await begin(path, "stop", "alice")
        await until(lambda: supervisor.settling)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 4
    assert err.startswith(b"jlabctl: jlabd went away")


# The other commands


async def test_signal(path, supervisor):
    """Signals have names, with and without SIG, and numbers."""
    for name in ("HUP", "sighup", "1"):
        assert (await jlabctl(path, "signal", "alice", name))[0] == 0
    assert supervisor.asked == [("signal", "alice", 1, "root")] * 3
    code, _, err = await jlabctl(path, "signal", "alice", "FROB")
    assert (code, err) == (2, "jlabctl: 'FROB' is not a signal; write a name like HUP or a number\n")
    supervisor.refuse = "alice does not run"
    assert await jlabctl(path, "signal", "alice", "HUP") == (1, b"", "jlabctl: alice does not run\n")


async def test_reload_shows_the_plan(path, supervisor):
    """A reload says what it did, a dry run what it would do, with the differences for nginx."""
    done = "added: dora\nchanged: bob (root_dir, env)\nremoved: carl\nuntouched: 1\n"
    assert await jlabctl(path, "reload") == (0, done.encode(), "")
    code, out, _ = await jlabctl(path, "reload", "--dry-run")
    assert (code, out.decode()) == (0, done + "nginx:\n  --- old\n  +++ new\n")
    assert json.loads((await jlabctl(path, "reload", "--json"))[1]) == PLAN
    assert [asked[1] for asked in supervisor.asked] == [False, True, False]


async def test_reload_that_fails(path, supervisor):
    """Problems come one a line on stderr, as the daemon found them, with exit code 1."""
    supervisor.plan = PLAN | {"ok": False, "problems": ["/etc/jlabd.toml:3: x: no"], "error": "nothing reloaded"}
    code, out, err = await jlabctl(path, "reload")
    assert (code, out) == (1, b"")
    assert err.splitlines()[:2] == ["/etc/jlabd.toml:3: x: no", "jlabctl: nothing reloaded"]


async def test_logs_are_passed_on_byte_for_byte(path, supervisor):
    """A log is not decoded, not even where it is no UTF-8."""
    supervisor.log = bytes(range(256)) * 1000 + b"\nlast"
    assert (await jlabctl(path, "logs", "alice", "-n", "100000"))[:2] == (0, supervisor.log)


async def test_followed_log_into_head(path, supervisor):
    """`logs -f | head -1` ends by itself, without a traceback; the daemon notices."""
    process = await asyncio.create_subprocess_shell(
        f"{sys.executable} -m jlabd.ctl.main logs alice -f -n 1 | head -n 2",
        stdout=PIPE,
        stderr=PIPE,
        env=environment(path),
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (out, err) == (b"\xff\xfe third\nmore\n", b"")
    await until(lambda: not supervisor.following)


@pytest.mark.parametrize("words", ["status", "status --json", "events", "--no-color status", "--help"])
async def test_reader_that_is_gone(path, supervisor, words):
    """Whatever is written into a pipe that nobody reads, there is no traceback."""
    for n in range(500):
        supervisor.journal.record("alice", "state", "ready", f"event {n} " + "x" * 200)
    process = await asyncio.create_subprocess_shell(
        f"({sys.executable} -m jlabd.ctl.main {words}; echo $? >&2) | true",
        stdout=PIPE,
        stderr=PIPE,
        env=environment(path),
    )
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert err in (b"141\n", b"0\n")


async def test_ctrl_c_while_following(path, supervisor):
    """Ctrl-C ends following quietly."""
    process = await begin(path, "logs", "alice", "-f")
    await process.stdout.readuntil(b"more")
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (130, b"")


async def test_events(path, supervisor):
    """Events are sentences for people and JSON for programs, and follow as they happen."""
    supervisor.journal.record("alice", "state", "ready", "ready after 1.2 s")
    supervisor.journal.record(None, "reload", None, "bad \x1b[2J")
    out = (await jlabctl(path, "events"))[1].decode().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  alice  ready  ready after 1.2 s", out[0])
    assert out[1].endswith("  jlabd  reload  bad \\x1b[2J")
    assert [json.loads(line)["seq"] for line in (await jlabctl(path, "events", "--json"))[1].splitlines()] == [1, 2]
    process = await begin(path, "events", "-f", "-n", "0")
    await until(lambda: supervisor.journal._subscriptions)
    supervisor.journal.record("bob", "state", "stopping", "stop requested by root")
    assert (await process.stdout.readline()).endswith(b"bob  stopping  stop requested by root\n")
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130


async def test_url(path):
    """The address, and with --token a link that logs in."""
    assert (await jlabctl(path, "url", "alice"))[:2] == (0, b"http://lab.example.com/alice/\n")
    assert (await jlabctl(path, "url", "alice", "--token"))[1].endswith(b"?token=SECRET\n")


async def test_passwd_prints_a_hash(path, supervisor):
    """Without a name the hash is printed, in the form that JupyterLab accepts, and nothing is asked of the daemon."""
    from argon2 import PasswordHasher

    code, out, err = await jlabctl("/nowhere", "passwd", "--stdin", stdin="pässword\n".encode())
    assert (code, err) == (0, "")
    assert PasswordHasher().verify(out.decode().strip().removeprefix("argon2:"), "pässword")


async def test_passwd_puts_it_in_place(path, supervisor):
    """With a name the daemon gets the hash, never the password."""
    code, out, _ = await jlabctl(path, "passwd", "alice", "--stdin", stdin=b"secret")
    assert (code, out) == (0, b"alice is restarted with the new password\n")
    [(_, name, password_hash, _)] = supervisor.asked
    assert name == "alice"
    assert password_hash.startswith("argon2:$argon2id$")


@pytest.mark.parametrize(
    ("stdin", "said"),
    [(b"", "an empty password"), (b"\n", "an empty password"), (b"\xff\xfe\n", "not UTF-8")],
)
async def test_passwd_refuses(path, stdin, said):
    """An empty password, or bytes that are no text, are refused."""
    code, out, err = await jlabctl(path, "passwd", "--stdin", stdin=stdin)
    assert (code, out) == (1, b"")
    assert said in err


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ((b"secret\n", b"secret\n"), 0, "argon2:$argon2id$"),
        ((b"secret\n", b"secre\n"), 1, "differ"),
        ((b"\n",), 1, "empty password"),
        ((b"\x04",), 1, "no password"),
        ((b"\x03",), 130, "New password: "),
    ],
)
async def test_passwd_asks_twice(path, answers, code, said):
    """On a terminal the password is asked for twice, and not shown."""
    result, shown = await on_terminal(path, "passwd", answers=answers)
    assert result == code
    assert said in shown
    assert "secre" not in shown
    assert "Traceback" not in shown


async def test_check_is_the_daemons_own(path, tmp_path):
    """`check` is `jlabd --check`, and runs no code that lies in the current folder."""
    (tmp_path / "jlabd").mkdir()
    (tmp_path / "jlabd" / "main.py").write_text("print('hijacked')")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[daemon]\nfrobnicate = 1\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "jlabd.ctl.main",
        "check",
        str(wrong),
        stdout=PIPE,
        stderr=PIPE,
        env=environment(path),
        cwd=tmp_path,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert b"hijacked" not in out
    assert f"{wrong}:2:".encode() in out + err


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
