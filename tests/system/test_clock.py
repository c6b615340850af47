"""The time of day may jump: nothing comes too early because of that, and nothing hangs. For daemon and labs alike."""

import time
from pathlib import Path

import pytest
from rig.daemon import daemons
from rig.unix_http import get
from rig.waiting import until
from rig.web import web

pytestmark = pytest.mark.jupyter

HOUR_S = 3600
STOP_AFTER_S = 3
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}


class Clock:
    """The time of day that everybody sees who was started with `env`; the monotonic clock is the real one."""

    def __init__(self, folder):
        library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
        if library is None:
            pytest.skip("NO LIBFAKETIME: apt install faketime")
        self._file = folder / "clock"
        self.jump(0)
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds):
        """Let it be another time of day, so many seconds from the real one."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{seconds:+d}s\n")
        beside.rename(self._file)


def since(daemon, name):
    """Return when the daemon believes that the present state began, as a time of day."""
    return daemon.instance(name)["since"]


def test_jumps_of_an_hour(lab4_venv, tmp_path):
    """Over jumps of an hour, there and back, labs go to sleep in their time, and backoffs end in theirs.

    Each jump has its own lab to go to sleep; the first one is woken at another time of day than it fell asleep, while
    the second one falls asleep.
    """
    clock = Clock(tmp_path)
    env = ", ".join(f'{name} = "{value}"' for name, value in clock.env.items())
    common = f"venv = '{lab4_venv}'\nroot_dir = '{{folder}}/home'\nwarm = false\nenv = {{ {env} }}\n"
    labs = {name: f"[instance.{name}]\n{common}" for name in ("ann", "bob")}
    idle = f'idle = {{ stop_after = "{STOP_AFTER_S}s" }}\n'
    looping = web("loop", "die=1", restart='{ initial = "2s", factor = 1, max = "2s" }')
    with daemons() as make:
        daemon = make("".join(labs.values()) + looping, env=clock.env).start()
        told = {}
        for name in labs:
            daemon.wait_for(name, "ready")
            told[name] = since(daemon, name)
        for name, jump in {"ann": HOUR_S, "bob": -HOUR_S}.items():
            clock.jump(jump)
            assert since(daemon, name)[:13] != told[name][:13], "the daemon does not see the jump"
            restarts = daemon.instance("loop")["restarts"]
            sleepy = {each: text + idle * (each == name) for each, text in labs.items()}
            daemon.write("".join(sleepy.values()) + looping)
            daemon.ctl("reload", check=True)
            began = time.monotonic()
            if name == "bob":
                get(daemon.folder / "run/sockets/ann.sock", "/ann/lab", **NAVIGATION)
            daemon.wait_for(name, "idle", 20)
            assert time.monotonic() - began >= STOP_AFTER_S - 0.5
            assert 0 <= daemon.instance("loop")["restarts"] - restarts <= 1 + (time.monotonic() - began)
            until(lambda restarts=restarts: daemon.instance("loop")["restarts"] > restarts, 10, "the backoff to end")
        daemon.wait_for("ann", "ready")
