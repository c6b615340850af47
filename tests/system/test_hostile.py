"""Users and programs that mean harm, or are merely unlucky: what they can do to their own lab, and to nobody else."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from rig.daemon import WITHOUT_CGROUPS
from rig.processes import is_alive
from rig.waiting import until
from rig.web import web

TRACER = """
import ctypes, sys, time
PTRACE_SEIZE = 0x4206
assert ctypes.CDLL(None).ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) == 0
print("traces", flush=True)
time.sleep(600)
"""


@pytest.fixture(params=[pytest.param("cgroup", marks=pytest.mark.root), "marks"])
def wrap(request):
    """Both ways of keeping process trees."""
    return WITHOUT_CGROUPS if request.param == "marks" and os.geteuid() == 0 else ()


@contextlib.contextmanager
def tracing(pid):
    """Let another process trace `pid`, and never look at what becomes of it."""
    tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(pid)], stdout=subprocess.PIPE)
    try:
        if tracer.stdout.readline() != b"traces\n":
            pytest.skip("NO TRACING HERE: the system forbids it (Yama)")
        yield
    finally:
        tracer.kill()
        tracer.communicate()


def zombies_of(parent):
    """Return the dead children that `parent` has not buried."""
    listed = subprocess.run(["ps", "--ppid", str(parent), "-o", "stat="], capture_output=True, text=True, check=False)
    return [stat for stat in listed.stdout.split() if stat.startswith("Z")]


def test_a_traced_server_that_dies_holds_nobody_up(jlabd, wrap):
    """The end of a server whose tracer does not look is noticed all the same, and the daemon goes on."""
    daemon = jlabd(web("a"), wrap=wrap).start()
    pid = daemon.wait_for("a", "ready")["pid"]
    with tracing(pid):
        os.kill(pid, signal.SIGKILL)
        until(lambda: daemon.ctl("status", timeout=5).returncode in {0, 3}, 5)
        until(lambda: daemon.instance("a")["incarnation"] == 2, 10, "the exit to be noticed")
        daemon.wait_for("a", "ready")
        daemon.ctl("stop", "a", check=True, timeout=10)
        assert not is_alive(pid)
    until(lambda: not zombies_of(daemon.process.pid), 5, "the dead to be buried")
