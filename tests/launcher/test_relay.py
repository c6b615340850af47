"""The relay between the daemon's socket and a program with an address of its own, and how commands are started."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from jlabd.core.launch import EX_CONFIG
from jlabd.jupyter.probe import ProbeError, Prober
from tests.shells.jupyter.labs import Server, descendants, short_folder, unix_spec, wait_for

PROGRAM = str(Path(__file__).with_name("echo_program.py"))
HTTP = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2])); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def place():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def run(place, tmp_path):
    """Start instances with a command; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(*command, **changes):
            server = Server(unix_spec(place, command=command, **changes), tmp_path, place)
            stack.callback(server.close)
            return server.start()

        yield start


def receive_all(connection):
    connection.settimeout(30)
    received = bytearray()
    while data := connection.recv(65536):
        received += data
    return bytes(received)


@pytest.fixture(params=["{port}", "{socket}"])
def echo(request, run):
    return run(sys.executable, PROGRAM, request.param)


def test_bytes_go_both_ways_and_half_close_is_kept(echo):
    """What a client sends comes back, and after it has closed its half the program's last word still arrives."""
    with echo.connect() as client:
        client.sendall(b"hello")
        client.settimeout(30)
        assert client.recv(5) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"goodbye"


def test_programs_end_of_conversation_arrives(echo):
    """When the program closes a connection, its client sees the end at once."""
    with echo.connect() as client:
        client.sendall(b"quit")
        assert receive_all(client) == b""


def test_a_client_that_does_not_read_holds_up_nobody(echo):
    """Back-pressure: a client that only writes is stopped after a bounded amount, and other clients are served."""
    with echo.connect() as stuck, echo.connect() as other:
        other.settimeout(30)
        other.sendall(b"up")
        assert other.recv(2) == b"up"
        stuck.setblocking(False)
        sent, quiet_since = 0, time.monotonic()
        while time.monotonic() - quiet_since < 0.5:
            try:
                sent += stuck.send(b"x" * 65536)
                quiet_since = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
            assert sent < 64 * 2**20
        other.sendall(b"still there")
        assert other.recv(11) == b"still there"


def test_much_data_arrives_whole(echo):
    """Megabytes come back unchanged."""
    data = os.urandom(1 << 20) * 8
    with echo.connect() as client:
        client.settimeout(30)
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        sender.start()
        assert receive_all(client) == data + b"goodbye"
        sender.join()


def test_connections_wait_for_the_program(place, run):
    """A client that comes before the program listens is served when it does."""
    server = run(sys.executable, PROGRAM, "{port}", "0.5")
    with server.connect() as client:
        client.sendall(b"early")
        client.settimeout(30)
        assert client.recv(5) == b"early"


def test_program_gets_neither_socket_nor_listen_variables(echo):
    """The program behind the relay has no part in the daemon's socket."""
    with echo.connect() as client:
        client.sendall(b"x")
        client.recv(1)
    line = next(line for line in echo.log.read_text().splitlines() if line.startswith("program has"))
    assert line == "program has ['0', '1', '2', '3'] []"  # 3 is the listing's own


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGUSR1, 7), (signal.SIGHUP, -signal.SIGKILL)],
)
def test_signals_go_on_and_the_end_comes_back(echo, number, status):
    """A signal reaches the program, and the relay ends as the program did."""
    with echo.connect() as client:
        client.sendall(b"x")
        client.recv(1)
    family = descendants(echo.process.pid)
    assert len(family) == 2
    assert echo.stop(number) == status
    assert not any(Path(f"/proc/{pid}/cmdline").exists() for pid in family - {echo.process.pid})


def test_requests_wait_over_a_restart(echo):
    """The public socket outlives the relay: who connects between two lives is answered by the second."""
    echo.stop()
    with echo.connect() as client:
        client.sendall(b"patience")
        echo.start()
        client.settimeout(30)
        assert client.recv(8) == b"patience"


def test_many_clients_at_once(echo):
    """Two hundred connections at a time are all served, although the program's own backlog is short."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(echo.connect()) for _ in range(200)]
        for number, client in enumerate(clients):
            client.sendall(b"%03d" % number)
        for number, client in enumerate(clients):
            client.settimeout(30)
            assert client.recv(3) == b"%03d" % number


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("no-such-program", "--port={port}"), "There is no program no-such-program in "),
        (("no-such-program",), "There is no program no-such-program in "),
        (("/no/such/program", "{socket}"), "/no/such/program is not a program that "),
        (("/etc/passwd", "{port}"), "/etc/passwd is not a program that "),
    ],
)
def test_missing_program(run, command, said):
    """A program that is not there, or is none, ends the relay with EX_CONFIG and a sentence."""
    server = run(*command)
    assert server.sentence().startswith(said)
    assert server.process.wait(30) == EX_CONFIG


def test_port_taken_by_another_user_is_not_trusted(run):
    """If somebody else got the port in the meantime, nothing is passed to them."""
    from jlabd.launcher import relay

    listener = socket.create_server(("127.0.0.1", 0))
    assert relay.port_owners(listener.getsockname()[1]) == {os.geteuid()}
    listener.close()
    assert relay.port_owners(listener.fileno()) == set()


def test_program_without_placeholders_takes_the_socket_itself(place, run):
    """A command that names no address inherits descriptor 3 by the LISTEN_FDS convention, found in PATH or not."""
    code = (
        "import os, socket; assert os.environ['LISTEN_PID'] == str(os.getpid())\n"
        "c = socket.socket(fileno=3).accept()[0]; c.sendall(os.environ['LISTEN_FDS'].encode())"
    )
    for program in (sys.executable, Path(sys.executable).name):
        server = run(program, "-c", code, name=f"n{len(program)}", env={"PATH": str(Path(sys.executable).parent)})
        with server.connect() as client:
            assert receive_all(client) == b"1"
        assert server.process.wait(30) == 0


async def test_commands_are_probed_by_any_answer(run):
    """A program that answers is well, whatever it answers, unless it calls it its own error."""
    server = run(sys.executable, "-c", HTTP, "{port}", "404", name="good")
    await Prober().probe(server.spec.listen, "/good/", is_lab=False, timeout_s=30)
    server = run(sys.executable, "-c", HTTP, "{port}", "502", name="bad")
    with pytest.raises(ProbeError, match="answered 502 to GET /bad/"):
        await Prober().probe(server.spec.listen, "/bad/", is_lab=False, timeout_s=30)


def test_clients_that_vanish_do_no_harm(echo):
    """Clients that leave before and while they are served are forgotten, with everything that was opened for them."""
    with echo.connect() as client:
        client.sendall(b"x")
        client.recv(1)
    fds = Path(f"/proc/{echo.process.pid}/fd")
    before = wait_for(lambda: len(list(fds.iterdir())))
    for _ in range(50):
        with echo.connect() as client:
            client.sendall(b"y" * 1000)
    wait_for(lambda: len(list(fds.iterdir())) <= before, what="the end of the transfers")
    assert echo.process.poll() is None
