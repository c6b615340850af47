"""A stage for the status page: the real endpoint and page, with instances that do what a script says.

Runs in a thread with an event loop of its own, so that a browser can be driven meanwhile.
"""

import asyncio
import math
import random
import threading
import time
from datetime import UTC, datetime, timedelta

from jlabd.spec import TcpListen
from jlabd.status.endpoint import Endpoint
from jlabd.status.history import Histories
from jlabd.status.journal import Journal
from jlabd.status.stream import Broadcast
from jlabd.status.view import rfc3339


def entry(name, state="ready", reason="ready after 0.9 s", *, ago_s=4000.0, **more):
    """Return an instance's part of a status document."""
    runs = state in {"ready", "unhealthy", "starting", "stopping"}
    return {
        "name": name,
        "state": state,
        "desired": "stopped" if state == "stopped" else "running",
        "reason": reason,
        "since": rfc3339(datetime.now(UTC) - timedelta(seconds=ago_s)),
        "pid": 4711 if runs else None,
        "user": name,
        "incarnation": 1,
        "restarts": 0,
        "next_restart_at": None,
        "url": f"http://lab.example.com/{name}/",
        "listen": f"unix:/run/jlabd/sockets/{name}.sock",
        "kernels": 1 if runs else None,
        "connections": 1 if runs else None,
        "last_activity": None,
        "cpu_percent": 2.0 if runs else None,
        "memory_bytes": 88 * 2**20 if runs else None,
        "launcher": "local",
    } | more


class Stage:
    """The endpoint at `address`; `instances` are entries, changed by `change`."""

    def __init__(self, *entries):
        self.instances = {each["name"]: each for each in entries}
        self.config_error = None
        self.journal = Journal()
        self.histories = Histories()
        self.broadcast = Broadcast(self.document, self.journal, self.histories)
        self.endpoint = Endpoint(
            TcpListen("127.0.0.1", 0), self.document, lambda: (True, ""), lambda _: (b"", "text/plain"), self.broadcast
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def document(self):
        """Return the status document."""
        return {
            "version": "1.0.0",
            "pid": 1234,
            "started_at": rfc3339(datetime.now(UTC) - timedelta(days=2)),
            "config": {"path": "/etc/jlabd.toml", "loaded_at": "2026-03-01T12:00:00.000Z", "error": self.config_error},
            "nginx": {"ok": True, "generation": 7, "error": None},
            "instances": [dict(each) for each in self.instances.values()],
        }

    def __enter__(self):
        self._thread.start()
        listen = self.run(self.endpoint.start())
        self.address = f"http://127.0.0.1:{listen.port}/"
        return self

    def __exit__(self, *_):
        self.run(self.endpoint.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work):
        """Do something in the loop, and return what came of it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def change(self, name, state=None, reason="", **fields):
        """Change an instance; a new state is recorded in the journal, as the daemon does."""

        async def do():
            found = dict(self.instances[name], **fields)
            if state is not None:
                found |= {"state": state, "reason": reason, "since": rfc3339(datetime.now(UTC))}
            self.instances[name] = found
            if state is not None:
                self.journal.record(name, "state", state, reason)

        self.run(do())

    def record(self, name, kind, state, reason, *, ago_s=0.0):
        """Put an event into the journal."""

        async def do():
            self.journal._now = lambda: datetime.now(UTC) - timedelta(seconds=ago_s)
            self.journal.record(name, kind, state, reason)
            self.journal._now = lambda: datetime.now(UTC)

        self.run(do())

    def remember(self, name, seed):
        """Give an instance a past of a quarter of an hour that ends in what it uses now."""
        chance, now, found = random.Random(seed), time.monotonic(), self.instances[name]
        for step in range(60, -1, -1):
            wave = 0.6 + 0.4 * math.sin(step / (3 + seed % 5) + seed)
            cpu = found["cpu_percent"] * (1 if step == 0 else wave * chance.uniform(0.7, 1.3))
            memory = found["memory_bytes"] * (1 - 0.004 * step * (seed % 3) + (0 if step == 0 else 0.02 * wave))
            self.histories.note(name, now - 15.0 * step, cpu, int(memory))
