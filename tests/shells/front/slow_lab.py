"""A server that takes its time, on the socket that it shares with the daemon."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

from jlabd.front.standin import Standing

CHILD = Path(__file__).with_name("lab_child.py")
STARTING = Standing("starting", "start requested", base_url="/alice/")
FAILED = Standing("failed", "gave up after 3 failures")


class Lab:
    """The server: it is there from the beginning, and accepts when it is told to."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid

    async def serve(self):
        """Return when it accepts."""
        self.process.stdin.write(b"go\n")
        assert await asyncio.wait_for(self.process.stdout.readline(), 20) == b"serving\n"


@contextlib.asynccontextmanager
async def server(sock):
    """Give a server that shares `sock`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, CHILD, stdin=-1, stdout=-1, preexec_fn=lambda: os.dup2(sock.fileno(), 3), close_fds=False
    )
    try:
        yield Lab(process)
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 20)


def held(stand_ins):
    """Return how many connections are answered or held."""
    return stand_ins._crowd.received


async def asked(http, path="/alice/api", **options):
    """Return status and JSON of a GET."""
    async with http.get(path, **options) as answer:
        return answer.status, await answer.json(content_type=None)
