"""Listening sockets: who may connect, what is refused and why, and that nothing leaks."""

import errno
import os
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jlabd.front.listeners import BACKLOG, ListenError, Listeners
from jlabd.spec import DaemonSpec, InstanceSpec, TcpListen, UnixListen

NGINX_GID = 33


def connect(path):
    """Return a connected client."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return client


def free_port(host="127.0.0.1"):
    """Return a TCP port that nobody uses."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def tcp(port, host="127.0.0.1"):
    """Return an instance on a TCP port."""
    return InstanceSpec("alice", TcpListen(host, port))


def test_a_unix_socket_is_for_its_owner_alone(listeners, spec):
    """Without a group of nginx nobody else may open the folder or the socket."""
    sock = listeners.open(spec)
    path = Path(spec.listen.path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sock.getsockname() == spec.listen.path


@pytest.mark.root
def test_a_unix_socket_is_for_root_and_the_group_of_nginx(runtime, spec):
    """The folder is root:nginx 0750 and the socket root:nginx 0660, whatever the umask and what was there before."""
    (runtime / "sockets").mkdir(mode=0o777)
    old = os.umask(0)
    try:
        Listeners(DaemonSpec(runtime_dir=str(runtime)), NGINX_GID).open(spec)
    finally:
        os.umask(old)
    for path, mode in ((Path(spec.listen.path).parent, 0o750), (Path(spec.listen.path), 0o660)):
        status = path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, NGINX_GID, mode)


@pytest.mark.root
def test_the_group_gets_in_and_others_do_not(runtime, spec):
    """A process with nginx's group connects; one without it is refused."""
    sock = Listeners(DaemonSpec(runtime_dir=str(runtime)), NGINX_GID).open(spec)
    script = f"import socket; socket.socket(socket.AF_UNIX).connect({spec.listen.path!r})"

    def status(gid):
        who = {"user": 65534, "group": gid, "extra_groups": []}
        return subprocess.run(["/usr/bin/python3", "-c", script], capture_output=True, text=True, check=False, **who)

    assert status(NGINX_GID).returncode == 0
    assert "PermissionError" in status(65534).stderr
    sock.close()


def test_the_same_socket_is_returned_as_long_as_it_is_open(listeners, spec):
    """Asked twice, the listeners return one socket, non-blocking, closed on exec, and listening."""
    sock = listeners.open(spec)
    assert listeners.open(spec) is sock
    assert listeners.fileno("alice") == sock.fileno()
    assert not sock.getblocking()
    assert not os.get_inheritable(sock.fileno())
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_open_undoes_what_a_lab_did_to_the_blocking_mode(listeners, spec):
    """A lab that made the shared socket blocking does not make the daemon's accept block."""
    os.set_blocking(listeners.open(spec).fileno(), True)
    sock = listeners.open(spec)
    assert not os.get_blocking(sock.fileno())


def test_a_socket_that_a_lab_has_shut_down_is_replaced(listeners, spec):
    """shutdown() by a lab reaches the shared socket; the next open makes a new one at the same place."""
    listeners.open(spec).shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionRefusedError):
        connect(spec.listen.path)
    listeners.open(spec)
    connect(spec.listen.path).close()


def test_a_tcp_socket_that_a_lab_has_shut_down_is_replaced(listeners):
    """The same for TCP."""
    spec = tcp(free_port())
    listeners.open(spec).shutdown(socket.SHUT_RDWR)
    listeners.open(spec)
    socket.create_connection(("127.0.0.1", spec.listen.port)).close()


def test_a_stale_socket_is_replaced(listeners, spec):
    """A socket file that nobody listens on, left by a killed daemon, is no obstacle."""
    listeners.open(spec)
    listeners.release("alice")
    assert Path(spec.listen.path).exists()
    listeners.open(spec)
    connect(spec.listen.path).close()


def test_a_live_socket_is_left_alone(runtime, spec, listeners):
    """A socket that somebody listens on is not taken away from them; it is worth trying again."""
    first = listeners.open(spec)
    with pytest.raises(ListenError, match=r"Another process listens on the socket .*/alice\.sock") as caught:
        Listeners(DaemonSpec(runtime_dir=str(runtime)), None).open(spec)
    assert not caught.value.permanent
    connect(spec.listen.path).close()
    assert first.accept()


def test_something_else_than_a_socket_is_never_removed(listeners, spec):
    """A file with the name of a socket stays, and the error says so."""
    path = Path(spec.listen.path)
    path.parent.mkdir(mode=0o700)
    path.write_text("mine")
    with pytest.raises(ListenError) as caught:
        listeners.open(spec)
    assert caught.value.permanent
    assert path.read_text() == "mine"


def test_a_folder_swapped_for_a_symlink_is_refused(runtime, listeners, spec):
    """No socket is made, and no mode changed, behind a symbolic link."""
    elsewhere = runtime / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (runtime / "sockets").symlink_to(elsewhere)
    with pytest.raises(ListenError, match="not a folder of our own"):
        listeners.open(spec)
    assert list(elsewhere.iterdir()) == []
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755


def test_a_path_that_is_too_long_is_refused_with_the_fix(runtime):
    """107 bytes fit into a socket's address; the sentence says what to change."""
    long = runtime / ("x" * 90)
    long.mkdir()
    spec = InstanceSpec("alice", UnixListen(f"{long}/sockets/alice.sock"))
    with pytest.raises(ListenError, match=r"use a shorter daemon\.runtime_dir") as caught:
        Listeners(DaemonSpec(runtime_dir=str(long)), None).open(spec)
    assert caught.value.permanent


def test_a_socket_outside_of_the_folder_is_refused(runtime, listeners):
    """Only the folder that nobody else can write is used for sockets."""
    with pytest.raises(ListenError, match="is not in"):
        listeners.open(InstanceSpec("alice", UnixListen(f"{runtime}/sockets/../alice.sock")))


def test_close_removes_the_name_that_is_ours(listeners, spec):
    """After close nothing is left in the folder, and closing again is harmless."""
    listeners.open(spec)
    listeners.close("alice")
    listeners.close("alice")
    assert list(Path(spec.listen.path).parent.iterdir()) == []
    with pytest.raises(KeyError):
        listeners.fileno("alice")


def test_close_leaves_a_name_that_is_somebody_elses_by_now(listeners, spec):
    """A socket that another process bound at the same path since stays."""
    listeners.open(spec)
    Path(spec.listen.path).unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(spec.listen.path)
        listeners.close("alice")
        assert Path(spec.listen.path).exists()


def test_a_changed_address_closes_the_old_one(listeners, spec):
    """An instance that moves from its socket to a port leaves nothing behind."""
    listeners.open(spec)
    moved = listeners.open(replace(spec, listen=TcpListen("127.0.0.1", free_port())))
    assert moved.family == socket.AF_INET
    assert not Path(spec.listen.path).exists()


def test_a_port_may_be_widened(listeners):
    """From 127.0.0.1:PORT to 0.0.0.0:PORT the own old socket is not in the way."""
    port = free_port()
    listeners.open(tcp(port))
    assert listeners.open(tcp(port, "0.0.0.0")).getsockname() == ("0.0.0.0", port)


def test_a_port_in_use_is_named_with_its_holder(listeners):
    """The sentence says which port, and which process has it."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            listeners.open(tcp(port))
    assert f"Port {port} on 127.0.0.1 is in use by pid {os.getpid()} (" in caught.value.reason
    assert not caught.value.permanent


def test_a_port_cannot_be_shared_by_a_thief(listeners):
    """SO_REUSEPORT is off, so that no other process can take a part of the connections."""
    spec = tcp(free_port())
    assert listeners.open(spec).getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            thief.bind(("127.0.0.1", spec.listen.port))


def test_a_port_is_free_again_at_once(listeners):
    """Connections in TIME_WAIT do not keep the port from being bound again."""
    spec = tcp(free_port())
    sock = listeners.open(spec)
    with socket.create_connection(("127.0.0.1", spec.listen.port)):
        sock.accept()[0].close()
    listeners.close("alice")
    listeners.open(spec)


def test_ipv6_is_ipv6_only(listeners):
    """An instance on [::] leaves the IPv4 port to others."""
    port = free_port("::")
    assert listeners.open(tcp(port, "::")).getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    listeners.open(replace(tcp(port, "0.0.0.0"), name="bob"))


@pytest.mark.parametrize(
    ("host", "sentence", "permanent"),
    [
        ("localhost", "localhost is not an IP address to listen on.", True),
        ("192.0.2.1", "this machine does not have that address", False),
    ],
)
def test_an_address_that_cannot_be_had_is_explained(listeners, host, sentence, permanent):
    """A name is not looked up; an address of another machine may come later."""
    with pytest.raises(ListenError, match=sentence) as caught:
        listeners.open(tcp(free_port(), host))
    assert caught.value.permanent is permanent


def test_running_out_of_descriptors_is_worth_trying_again(runtime, spec):
    """EMFILE is an ordinary error that passes, and leaves nothing behind; in a process of its own."""
    script = f"""
import os, resource
from jlabd.front.listeners import ListenError, Listeners
from jlabd.spec import DaemonSpec, InstanceSpec, TcpListen, UnixListen
listeners = Listeners(DaemonSpec(runtime_dir={str(runtime)!r}), None)
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) - 1,) * 2)
for listen in (UnixListen({spec.listen.path!r}), TcpListen('127.0.0.1', {free_port()})):
    try:
        listeners.open(InstanceSpec('alice', listen))
    except ListenError as error:
        print(error.permanent, error.reason)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.count("False ") == 2
    assert done.stdout.count(os.strerror(errno.EMFILE)) == 2


def test_opening_and_closing_leaks_nothing(listeners, spec):
    """200 rounds end with as many descriptors as they began with."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        listeners.open(spec)
        listeners.close("alice")
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_adopted_socket_is_as_good_as_an_own_one(runtime, listeners, spec):
    """A successor takes the descriptor over: requests that wait in the backlog survive, and close removes the name."""
    sock = listeners.open(spec)
    client = connect(spec.listen.path)
    descriptor = os.dup(sock.fileno())
    listeners.release("alice")
    successor = Listeners(DaemonSpec(runtime_dir=str(runtime)), None)
    adopted = successor.adopt(spec, descriptor)
    assert successor.open(spec) is adopted
    adopted.accept()[0].sendall(b"x")
    assert client.recv(1) == b"x"
    successor.close("alice")
    assert not Path(spec.listen.path).exists()


def test_a_descriptor_of_something_else_is_not_adopted(listeners, spec):
    """A descriptor that listens elsewhere, or nowhere, stays the caller's."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, open("/dev/null") as file:
        for descriptor in (elsewhere.fileno(), file.fileno()):
            with pytest.raises(ListenError):
                listeners.adopt(spec, descriptor)
            os.fstat(descriptor)


def test_the_backlog_holds_many(listeners, spec):
    """Requests wait during a restart: hundreds of connections succeed while nobody accepts."""
    listeners.open(spec)
    limit = int(Path("/proc/sys/net/core/somaxconn").read_text())
    clients = [connect(spec.listen.path) for _ in range(min(BACKLOG, limit, 300))]
    for client in clients:
        client.close()
