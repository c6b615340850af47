"""A hand-written daemon behind the control socket: instances that change when the test says so."""

import asyncio
import os
import pwd
import shutil
import tempfile
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from jlabd.control.server import ControlServer
from jlabd.control.supervisor import RefusedError, Settled
from jlabd.core.state import Actual, Desired, Instance
from jlabd.spec import InstanceSpec, UnixListen
from jlabd.status.journal import Journal
from jlabd.status.view import Clock, DaemonFacts, Observation, document, instance_document

CLOCK = Clock(1000.0, datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC))
ME = pwd.getpwuid(os.geteuid()).pw_name
"""The account that the tests run as, which is the daemon's own here."""
GOAL = {"start": "ready", "stop": "stopped", "restart": "ready"}
PLAN = {
    "ok": True,
    "refused": False,
    "problems": [],
    "added": ["dora"],
    "changed": {"bob": ["root_dir", "env"]},
    "removed": ["carl"],
    "untouched": 1,
    "nginx": "--- old\n+++ new\n",
    "error": "",
}


class FakeSupervisor:
    """Implements `control.supervisor.Supervisor`; `users` are the names of instances and their accounts."""

    def __init__(self, **users):
        self.users = users
        self.instances = {name: Instance(Desired.RUNNING, Actual.READY, "ready after 1.2 s", 900.0) for name in users}
        self.journal = Journal()
        self.asked = []
        self.plan = PLAN
        self.log = b"first\nsecond\n\xff\xfe third\n"
        self.refuse = None
        self.held = set()
        """Instances that do not get where they should until they are released."""
        self.reload_may_end = asyncio.Event()
        self.reload_may_end.set()
        self.reloading = 0
        self.following = 0
        self.settling = 0
        self._changed = asyncio.Event()

    def names(self):
        return list(self.users)

    def owner(self, name):
        return self.users.get(name)

    def document(self):
        facts = DaemonFacts("1.2.3", 4711, 400.0, "/etc/jlabd.toml", 400.0)
        return document(facts, [self._entry(name) for name in self.users], CLOCK)

    def _entry(self, name):
        spec = InstanceSpec(name, UnixListen(f"/run/jlabd/sockets/{name}.sock"), user=self.users[name])
        seen = Observation(kernels=2, connections=3, cpu_percent=12.34, memory_bytes=87 * 2**20)
        return instance_document(spec, self.instances[name], seen, f"http://lab.example.com/{name}/", "process", CLOCK)

    def become(self, name, state, reason, desired=Desired.RUNNING):
        """Let an instance change, as the daemon's driver does."""
        self.instances[name] = Instance(desired, Actual(state), reason, 1000.0, pid=77)
        self.journal.record(name, "state", state, reason)
        self._changed.set()

    def request(self, verb, name, by):
        if self.refuse:
            raise RefusedError(self.refuse)
        self.asked.append((verb, name, by))
        desired = Desired.STOPPED if verb == "stop" else Desired.RUNNING
        self.become(name, {"start": "starting"}.get(verb, "stopping"), f"{verb} requested by {by}", desired)
        if name not in self.held:
            asyncio.get_running_loop().call_later(0.05, self.become, name, GOAL[verb], "so it is", desired)

    async def settle(self, verb, name):
        self.settling += 1
        try:
            while (now := self.instances[name]).actual.value not in (GOAL[verb], "failed"):
                self._changed.clear()
                await self._changed.wait()
        finally:
            self.settling -= 1
        return Settled(now.actual.value == GOAL[verb], now.actual.value, now.reason)

    def signal(self, name, signum, by):
        if self.refuse:
            raise RefusedError(self.refuse)
        self.asked.append(("signal", name, signum, by))

    async def reload(self, *, dry_run, by):
        self.reloading += 1
        await self.reload_may_end.wait()
        self.asked.append(("reload", dry_run, by))
        return self.plan

    async def reexec(self, by):
        self.asked.append(("reexec", by))
        return "replaced"

    def url(self, name, *, token):
        return f"http://lab.example.com/{name}/" + ("?token=SECRET" if token else "")

    async def set_password(self, name, password_hash, by):
        self.asked.append(("passwd", name, password_hash, by))
        return f"{name} is restarted with the new password"

    def log_tail(self, name, lines):
        return b"".join(self.log.splitlines(keepends=True)[-lines:])

    async def log_follow(self, name, lines):
        self.following += 1
        try:
            yield self.log_tail(name, lines)
            while True:
                yield b"more\n"
                await asyncio.sleep(0.02)
        finally:
            self.following -= 1


@contextmanager
def short_folder():
    """Give a folder with a short name that everybody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="jl", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def served(supervisor, admin_group="jlabd-no-such-group"):
    """Serve `supervisor`, and give the path of its control socket."""
    with short_folder() as folder:
        server = ControlServer(str(folder / "control.sock"), supervisor, lambda: admin_group)
        try:
            await server.start()
            yield str(folder / "control.sock")
        finally:
            await server.close()


async def until(condition, timeout_s=10.0):
    """Wait until `condition()` is true; fail after `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  (no event tells of it)
            await asyncio.sleep(0.01)


async def ask(path, raw):
    """Send raw bytes, and return all that comes back until the daemon closes."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(raw)
    try:
        async with asyncio.timeout(15):
            return await reader.read()
    finally:
        writer.close()
