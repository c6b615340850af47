"""A real jlabd in a folder of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from rig.processes import with_argument
from rig.unix_http import get
from rig.waiting import until

PROGRAMS = Path(sys.executable).parent

HEAD = """
[daemon]
runtime_dir = "{folder}/run"
state_dir = "{folder}/state"
log_dir = "{folder}/log"
status_listen = "unix:{folder}/status.sock"
{daemon}

[nginx]
{nginx}

[defaults]
{account}
"""


WITHOUT_CGROUPS = ("unshare", "--mount", "sh", "-c", 'umount -a -t cgroup2 && exec "$@"', "sh")
"""Run the daemon where it sees no cgroup v2 (as root; others may not use it anyway)."""


class Jlabd:
    """One daemon. `config` is TOML, {folder} in it its folder; [daemon], [nginx] and [defaults] are the rig's."""

    def __init__(self, config, *, nginx="enabled = false", daemon="", defaults="", env=None, wrap=()):
        self.folder = Path(tempfile.mkdtemp(prefix="jl", dir="/tmp"))
        self.folder.chmod(0o755)
        (self.folder / "home").mkdir()
        self.path = self.folder / "jlabd.toml"
        self.socket = self.folder / "run/control.sock"
        self.env = {**os.environ, **(env or {})}
        self.wrap = wrap
        daemon = daemon if "include" in daemon else f'include = ""\n{daemon}'
        self._head = HEAD.replace("{daemon}", daemon).replace("{nginx}", nginx)
        account = 'user = "root"\nallow_root = true\n' if os.geteuid() == 0 else ""
        self._head = self._head.replace("{account}", defaults if "user" in defaults else account + defaults)
        self.process = None
        self.write(config)

    def write(self, config):
        """Put a new configuration in place; it is not read before a reload."""
        self.path.write_text((self._head + config).replace("{folder}", str(self.folder)))

    def start(self, wait=True):
        """Run the daemon; with `wait` return when it answers."""
        self.output = (self.folder / "jlabd.out").open("ab")
        self.process = subprocess.Popen(
            [*self.wrap, PROGRAMS / "jlabd", "--config", self.path],
            stdout=self.output,
            stderr=self.output,
            stdin=subprocess.DEVNULL,
            env=self.env,
        )
        if wait:
            until(self.answers, 30, "the daemon to answer")
        return self

    def answers(self):
        """Return whether it answers; fail if it has ended."""
        assert self.process.poll() is None, self.said()
        try:
            self.document()
        except OSError:
            return False
        return True

    def said(self):
        """Return the daemon's own log."""
        return (self.folder / "jlabd.out").read_text(errors="replace")

    def ctl(self, *words, check=False, **options):
        """Run jlabctl to its end."""
        done = subprocess.run(
            [PROGRAMS / "jlabctl", "--socket", self.socket, *words],
            capture_output=True,
            text=True,
            timeout=options.pop("timeout", 120),
            check=False,
            **options,
        )
        if check:
            assert done.returncode == 0, f"jlabctl {words}: {done.stdout}{done.stderr}\n{self.said()}"
        return done

    def document(self):
        """Return the status document."""
        status, body = get(self.folder / "status.sock", "/status")
        assert status == 200, body
        return json.loads(body)

    def instance(self, name):
        """Return an instance's part of the status document."""
        return next(entry for entry in self.document()["instances"] if entry["name"] == name)

    def wait_for(self, name, state, timeout_s=60):
        """Return the instance's entry once it is in `state`."""

        def reached():
            entry = next((each for each in self.document()["instances"] if each["name"] == name), None)
            return entry if entry and entry["state"] == state else None

        try:
            return until(reached, timeout_s, f"{name} to be {state}", every_s=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}; status: {self.document()}\n{self.said()[-3000:]}") from None

    def token(self, name):
        """Return the token that logs in to `name`."""
        link = self.ctl("url", name, "--token", check=True).stdout.strip()
        return link.partition("token=")[2]

    def log(self, name):
        """Return an instance's own log."""
        return (self.folder / "log" / f"{name}.log").read_bytes()

    def stop(self, timeout_s=60):
        """End the daemon as a terminal would; return its exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.output.close()

    def kill(self):
        """Let it die without a word."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def remove(self):
        """Remove the folder; the daemon must have ended."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def daemons():
    """Give a function that makes daemons; in the end all are stopped, and nothing that they ever started may live."""
    made = []

    def make(config, **options):
        daemon = Jlabd(config, **options)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        status = daemon.stop()
        left = with_argument(str(daemon.folder))
        daemon.remove()
        assert status in {None, 0, -signal.SIGKILL}, daemon.folder
        assert not left, f"left behind: {left}"
