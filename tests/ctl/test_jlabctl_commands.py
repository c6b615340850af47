"""The commands of `jlabctl` that act and that stream, as processes of their own."""

import asyncio
import json
import re
import signal
import sys

import pytest

from tests.ctl.command import PIPE, begin, environment, jlabctl, on_terminal
from tests.shells.control.fakes import ME, PLAN, served, until

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
    assert (code, shown) == (0, f"alice: stopping: stop requested by {ME}\nalice: stopped: so it is\n")


async def test_what_takes_long_counts_the_seconds(path, supervisor):
    """A person sees that it goes on, on one line that fits and vanishes; NO_COLOR or not, it is no colour."""
    supervisor.held = {"alice"}
    code, shown = await on_terminal(path, "stop", "alice", "--timeout", "1200ms", columns=30, NO_COLOR="1")
    assert code == 1
    event, *progress, error = shown.split("\r\x1b[K")
    assert (event, set(progress)) == (f"alice: stopping: stop requested by {ME}\n", {"waiting for the stop of alic…"})
    assert error.startswith("jlabctl: stop alice: stopping: not stopped within 1.2 s")


@pytest.mark.parametrize("more", [{"TERM": "dumb"}, {"TERM": ""}])
async def test_a_simple_terminal_gets_lines_only(path, supervisor, more):
    """What cannot go back on its line is not asked to."""
    supervisor.held = {"alice"}
    _, shown = await on_terminal(path, "stop", "alice", "--timeout", "1200ms", **more)
    assert "\x1b" not in shown
    assert "waiting for" not in shown


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
    """Ctrl-C exits with 130 and says that what was asked for goes on, which it does."""
    supervisor.held = {"alice"}
    process = await begin(path, "stop", "alice")
    await until(lambda: supervisor.settling)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, out) == (130, b"")
    assert err == b"jlabctl: no longer waiting; the stop of alice goes on, `jlabctl status` shows how\n"
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
    assert supervisor.asked == [("signal", "alice", 1, ME)] * 3
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
    supervisor.plan = PLAN | {
        "ok": False,
        "refused": True,
        "problems": ["/etc/jlabd.toml:3: x: no"],
        "error": "nothing reloaded",
    }
    code, out, err = await jlabctl(path, "reload")
    assert (code, out) == (1, b"")
    assert err.splitlines() == [
        "/etc/jlabd.toml:3: x: no",
        "jlabctl: nothing reloaded",
        "jlabctl: nothing was changed",
    ]


async def test_reload_without_a_broken_include(path, supervisor):
    """What could be applied is shown, what could not is said, and the exit code is 1."""
    supervisor.plan = PLAN | {"ok": False, "problems": ["/etc/jlabd.d/x.toml:3: x: no"], "error": ""}
    code, out, err = await jlabctl(path, "reload")
    assert code == 1
    assert b"added: dora" in out
    assert "the rest is in force" in err


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


@pytest.mark.parametrize(
    "words",
    [
        "status",
        "status --json",
        "events",
        "--no-color status",
        "--help",
        "completion bash",
        "doctor --config /nonexistent",
        "add x --config /nonexistent",
    ],
)
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
    assert err.splitlines()[-1] in {b"141", b"0"} or b"/nonexistent" in err
    assert b"Traceback" not in err
    assert b"Exception" not in err


async def test_ctrl_c_of_a_program_behind_a_command(path, tmp_path):
    """A doctor who waits for a slow nginx ends without a traceback."""
    config, marker = tmp_path / "jlabd.toml", tmp_path / "waits"
    slow = f'["sh", "-c", "touch {marker}; exec sleep 60", "-t"]'
    config.write_text(f'[daemon]\ninclude = ""\n[nginx]\ntest_command = {slow}\n')
    process = await begin(path, "doctor", "--config", str(config))
    await until(marker.exists, 30)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (130, b"")
    assert f"ok  configuration: {config} is in order".encode() in out  # told before


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
