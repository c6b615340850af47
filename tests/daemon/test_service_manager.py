"""What systemd is told and asked, with a socket that stands for it; the real one is in tests/packaging."""

import ast
import os
import socket
import subprocess
import sys
import tempfile

import pytest

from jlabd.daemon import ending
from jlabd.daemon.ending import job_type, labs_are_to_stay, own_service
from jlabd.daemon.fdstore import FdStore
from jlabd.daemon.manager import notify
from jlabd.front.listeners import Listeners
from jlabd.spec import DaemonSpec, InstanceSpec, TcpListen

JOBS = """\
 12 nginx.service          restart waiting
4711 jlabd.service         {} running
  13 jlabd-labs.service    start running
"""


@pytest.fixture
def manager(monkeypatch):
    """The receiving end of the notification socket."""
    with (
        tempfile.TemporaryDirectory(prefix="jl", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(f"{folder}/notify")
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/notify")
        yield receiver


def received(manager):
    """Return (lines, inode of the descriptor that came along or None) of the next message."""
    data, descriptors, _, _ = socket.recv_fds(manager, 4096, 4)
    inodes = [os.fstat(descriptor).st_ino for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    return data.decode().splitlines(), inodes[0] if inodes else None


def test_descriptors_go_along(manager):
    """What is sent for the store is the very socket; nothing else sends descriptors."""
    with socket.socket() as sock:
        notify("FDSTORE=1", descriptors=[sock.fileno()])
        assert received(manager) == (["FDSTORE=1"], os.fstat(sock.fileno()).st_ino)
    notify("READY=1", "STATUS=fine")
    assert received(manager) == (["READY=1", "STATUS=fine"], None)


def test_store_follows_the_listeners(manager, tmp_path):
    """A socket that is opened or adopted is kept, one that is closed is dropped; one that is released stays kept."""
    listeners = Listeners(DaemonSpec(runtime_dir=str(tmp_path)), None, FdStore())
    spec = InstanceSpec("a.b@c", TcpListen("127.0.0.1", 0))
    opened = listeners.open(spec)
    assert received(manager) == (["FDSTOREREMOVE=1", "FDNAME=instance-a.b@c"], None)
    kept = (["FDSTORE=1", "FDNAME=instance-a.b@c", "FDPOLL=0"], os.fstat(opened.fileno()).st_ino)
    assert received(manager) == kept
    listeners.close("a.b@c")
    assert received(manager) == (["FDSTOREREMOVE=1", "FDNAME=instance-a.b@c"], None)
    listeners.open(spec)
    received(manager), received(manager)
    listeners.release("a.b@c")
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        received(manager)


RECEIVER = """
import os, sys
from jlabd.daemon.fdstore import FdStore
os.environ["LISTEN_PID"] = sys.argv[1] or str(os.getpid())
store = FdStore()
found = store.receive()
kept = {name: (os.fstat(number).st_ino, os.get_inheritable(number)) for name, number in found.items()}
still_open = [number for number in range(3, 6) if os.path.exists(f"/proc/self/fd/{number}")]
print([kept, still_open, [name for name in os.environ if name.startswith("LISTEN_")]])
store.tidy(["a"])
"""


def hand_over(labels, socks, pid=""):
    """Run RECEIVER with sockets from descriptor 3 on, as systemd passes them; return what it says."""
    numbers = [sock.fileno() for sock in socks]
    redirections = " ".join(f"{3 + index}<&{number}" for index, number in enumerate(numbers))
    return ast.literal_eval(
        subprocess.run(
            ["bash", "-c", f'exec "$0" -c "$1" "$2" {redirections}', sys.executable, RECEIVER, pid],
            env={**os.environ, "LISTEN_FDS": str(len(labels)), "LISTEN_FDNAMES": ":".join(labels)},
            pass_fds=numbers,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    )


def test_received_sockets(manager):
    """What is ours comes back by instance; the rest is closed, and dropped from the store; the variables are gone."""
    with socket.socket() as a, socket.socket() as gone, socket.socket() as strange:
        found = hand_over(["instance-a", "instance-gone", "stored"], [a, gone, strange])
        inodes = [os.fstat(sock.fileno()).st_ino for sock in (a, gone)]
    assert found == [{"a": (inodes[0], False), "gone": (inodes[1], False)}, [3, 4], []]
    dropped = [received(manager), received(manager)]
    assert sorted(lines for lines, _ in dropped) == [
        ["FDSTOREREMOVE=1", "FDNAME=instance-gone"],
        ["FDSTOREREMOVE=1", "FDNAME=stored"],
    ]


def test_the_same_name_twice(manager):
    """Of two sockets for one instance the first is taken, and the other closed."""
    with socket.socket() as one, socket.socket() as two:
        found = hand_over(["instance-a", "instance-a"], [one, two])
        assert found[:2] == [{"a": (os.fstat(one.fileno()).st_ino, False)}, [3]]


def test_sockets_for_somebody_else(manager):
    """Sockets that were passed to another process, whose environment we inherited, are none of ours."""
    with socket.socket() as sock:
        assert hand_over(["instance-a"], [sock], pid="1") == [{}, [3], []]


async def test_no_systemd(monkeypatch):
    """Where systemd did not start this very process, a SIGTERM ends the labs."""
    monkeypatch.setenv("SYSTEMD_EXEC_PID", "1")
    assert not await labs_are_to_stay()


@pytest.mark.parametrize(
    ("systemctl", "stay"),
    [
        ("echo '  7 our.service restart running'", True),
        ("echo '  7 our.service stop running'", False),
        ("echo 'No jobs running.'", False),
        ("exit 1", True),
    ],
)
async def test_what_systemd_says(monkeypatch, tmp_path, systemctl, stay):
    """A restart leaves the labs and a stop ends them; without an answer they stay, which can be mended."""
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\n{systemctl}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
    monkeypatch.setattr(ending, "own_service", lambda _: ("--system", "our.service"))
    assert await labs_are_to_stay() is stay


def test_job_type():
    """The job of our own unit counts, whatever else is under way."""
    assert job_type(JOBS.format("restart"), "jlabd.service") == "restart"
    assert job_type(JOBS.format("stop"), "jlabd.service") == "stop"
    assert job_type(JOBS.format("stop"), "other.service") is None
    assert job_type("No jobs running.\n", "jlabd.service") is None


@pytest.mark.parametrize(
    ("cgroups", "expected"),
    [
        ("0::/system.slice/jlabd.service\n", ("--system", "jlabd.service")),
        ("0::/system.slice/jlabd.service/daemon\n", ("--system", "jlabd.service")),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/jlabd.service\n",
            ("--user", "jlabd.service"),
        ),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("12:pids:/x.service\n1:name=systemd:/system.slice/jlabd.service\n0::/\n", ("--system", "jlabd.service")),
        ("1:name=systemd:/../elsewhere.service\n0::/system.slice/jlabd.service\n", ("--system", "jlabd.service")),
        ("", None),
    ],
)
def test_own_service(cgroups, expected):
    """The innermost service is found, on machines with cgroup v2, v1 and both, and whose manager it is."""
    assert own_service(cgroups) == expected
