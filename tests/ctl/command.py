"""The real `jlabctl` as a process of its own, with pipes or with a terminal."""

import asyncio
import fcntl
import os
import pty
import select
import struct
import sys
import termios
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PIPE = asyncio.subprocess.PIPE
COMMAND = [sys.executable, "-m", "jlabd.ctl.main"]


def environment(path, **more):
    plain = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    places = os.pathsep.join(filter(None, (str(TOP), plain.get("PYTHONPATH"))))
    return plain | {"JLABD_SOCKET": path, "PYTHONPATH": places, "PYTHONIOENCODING": "utf-8"} | more


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
    ours, process = await begin_on_terminal(path, *words, columns=columns, **more)
    shown = await asyncio.wait_for(asyncio.to_thread(_talk, ours, list(answers)), 60)
    os.close(ours)
    return await asyncio.wait_for(process.wait(), 60), shown.decode().replace("\r\n", "\n")


async def begin_on_terminal(path, *words, columns=120, **more):
    """Start the command on a terminal of its own; return our end of it, and the process."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 25, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *words,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(path, **{"TERM": "xterm"} | more),
        preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
    )
    os.close(theirs)
    return ours, process


async def read_until(descriptor, end):
    """Return what comes from a terminal until `end` has."""
    shown = b""
    while end not in shown:
        assert (await asyncio.to_thread(select.select, [descriptor], [], [], 30))[0], shown
        shown += os.read(descriptor, 65536)
    return shown


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
