"""Run a program that serves HTTP, on the listening socket that jlabd hands over.

    python3 relay.py --folder FOLDER -- PROGRAM [ARGUMENTS]

If an argument holds {port} or {socket}, the program is started as a child with a free port of the loopback interface or
FOLDER/program.sock filled in, and bytes are passed both ways between it and the listening socket (descriptor 3): the
address that people know stays jlabd's. Otherwise the program takes this process's place, and descriptor 3 with it
(LISTEN_FDS, as sd_listen_fds(3) says).

If there is no such program, descriptor 4 (a pipe) takes one sentence that says so, and the exit status is 78. Signals
go on to the child; its end is this process's end, with its status or by its signal.
"""

import os
import sys

if os.path.dirname(os.path.abspath(__file__)) in sys.path:  # the script's folder is no place to import from
    sys.path.remove(os.path.dirname(os.path.abspath(__file__)))

import asyncio
import contextlib
import errno
import resource
import shutil
import signal
import socket
import stat
from typing import Any, List, NoReturn, Optional, Set, Tuple

LISTEN_FD = 3
NOTIFY_FD = 4
EX_CONFIG = 78
CHUNK = 64 * 1024
RETRY_S = 0.05
FLUSH_S = 2.0
SOCKET_PATH_MAX = 107
LINGER_S = 30.0
FORWARDED = ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH")
PASSING_FAULTS = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
LISTENING = "0A"
"""TCP_LISTEN as /proc/net/tcp writes it."""

Address = Tuple[int, Any]
"""Address family, and the address that connect() takes."""


def refuse(sentence: str) -> NoReturn:
    """Tell the daemon and the log why the program cannot run, and end with EX_CONFIG."""
    print(f"jlabd: {sentence}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(NOTIFY_FD).st_mode):
            os.write(NOTIFY_FD, " ".join(sentence.split()).encode("utf-8", "replace")[:4000])
    sys.exit(EX_CONFIG)


def say(sentence: str) -> None:
    """Write one line to the instance's log."""
    print(f"jlabd: {sentence}", file=sys.stderr, flush=True)


def listening_socket() -> socket.socket:
    """Return the socket on descriptor 3; ends the process if there is none."""
    try:
        listener = socket.socket(fileno=LISTEN_FD)
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return listener
    except OSError:
        pass
    refuse("Descriptor 3 is not a listening socket: only jlabd may start this program")


def find_program(name: str) -> str:
    """Return where the program `name` is; ends the process if it is nowhere."""
    path = shutil.which(name)
    if path is not None:
        return path
    if "/" not in name:
        refuse(f"There is no program {name} in {os.environ.get('PATH', os.defpath)}: install it, or give its full path")
    refuse(
        f"{name} is not a program that {os.environ.get('USER', 'this user')} can run: install it, or correct its path"
    )


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def private_address(command: List[str], folder: str) -> Tuple[List[str], Optional[Address]]:
    """Return the command with {port} or {socket} filled in, and the address that it will listen on, if any."""
    text = " ".join(command[1:])
    address: Optional[Address] = None
    if "{port}" in text:
        port = free_port()
        command = [argument.replace("{port}", str(port)) for argument in command]
        address = (socket.AF_INET, ("127.0.0.1", port))
    if "{socket}" in text:
        path = os.path.join(folder, "program.sock")
        if len(os.fsencode(path)) > SOCKET_PATH_MAX:
            refuse(f"{path} is too long for a socket: use {{port}} in the command, or a shorter runtime_dir")
        command = [argument.replace("{socket}", path) for argument in command]
        address = (socket.AF_UNIX, path)
    return command, address


def port_owners(port: int) -> Set[int]:
    """Return the ids of the users who listen on `port` of this machine."""
    owners = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as file:
            for fields in (line.split() for line in list(file)[1:]):
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    owners.add(int(fields[7]))
    return owners


class Relay:
    """One child, and the connections that are passed on to it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._transfers: Set[Any] = set()
        self._ended = False

    async def connect(self) -> socket.socket:
        """Return a connection to the program, however long it takes to listen. Raises OSError once it has ended."""
        family, address = self._address
        while not self._ended:
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.setblocking(False)
                if family == socket.AF_UNIX:
                    connection.connect(address)  # at once or never; asyncio would take EAGAIN for "in progress"
                else:
                    await asyncio.get_event_loop().sock_connect(connection, address)
                return connection
            except OSError:  # it does not listen yet, or its backlog is full
                connection.close()
                await asyncio.sleep(RETRY_S)
            except BaseException:
                connection.close()
                raise
        raise ConnectionRefusedError(errno.ECONNREFUSED, "the program has ended")

    async def wait_until_listening(self) -> None:
        """Return when the program accepts connections; until then they wait in our own socket's backlog."""
        (await self.connect()).close()
        family, address = self._address
        if family == socket.AF_INET:
            strangers = port_owners(address[1]) - {os.geteuid(), 0}
            if strangers:
                raise OSError(errno.EADDRINUSE, f"port {address[1]} was taken by user {min(strangers)} meanwhile")

    async def accept(self, listener: socket.socket) -> None:
        """Pass on every connection, for ever."""
        await self.wait_until_listening()
        loop = asyncio.get_event_loop()
        listener.setblocking(False)
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError as error:
                # A client that left while it waited is nobody's fault; a lack of descriptors or memory passes.
                await asyncio.sleep(RETRY_S if error.errno in PASSING_FAULTS else 0)
                continue
            transfer = asyncio.ensure_future(self._transfer(client))
            self._transfers.add(transfer)
            transfer.add_done_callback(self._transfers.discard)

    async def _transfer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), await self.connect() as program:
            for end in (client, program):
                end.setblocking(False)
                if end.family != socket.AF_UNIX:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await both_ways(client, program)

    async def flush(self) -> None:
        """Give the last answers of the ended program time to reach their clients."""
        self._ended = True
        if self._transfers:
            await asyncio.wait(list(self._transfers), timeout=FLUSH_S)


async def both_ways(client: socket.socket, program: socket.socket) -> None:
    """Copy between two sockets until both directions have ended, or one has failed. Raises OSError."""
    up, down = asyncio.ensure_future(one_way(client, program)), asyncio.ensure_future(one_way(program, client))
    try:
        await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        if up.done():
            up.result()
        await down
        # The program has ended the conversation: a client that stays silent does not hold it open for ever.
        await asyncio.wait([up], timeout=LINGER_S)
    finally:
        for direction in (up, down):
            direction.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def one_way(source: socket.socket, sink: socket.socket) -> None:
    """Copy until the end of `source`, then say so to `sink`; no more than one chunk is held. Raises OSError."""
    loop = asyncio.get_event_loop()
    while True:
        data = await loop.sock_recv(source, CHUNK)
        if not data:
            sink.shutdown(socket.SHUT_WR)
            return
        await loop.sock_sendall(sink, data)


async def start(command: List[str]) -> Any:
    """Start the program as a child; ends this process if that cannot be done."""
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    try:
        child = await asyncio.create_subprocess_exec(*command)
    except OSError as error:
        cannot_run(command[0], error)
    with contextlib.suppress(OSError):
        os.close(NOTIFY_FD)
    for name in FORWARDED:
        number = getattr(signal, name)
        asyncio.get_event_loop().add_signal_handler(number, forward, child, number)
    return child


async def run(command: List[str], address: Address, listener: socket.socket) -> int:
    """Run the program until it ends; return its status, negative for a signal."""
    child = await start(command)
    relay = Relay(address)
    accepting = asyncio.ensure_future(relay.accept(listener))
    ending = asyncio.ensure_future(child.wait())
    await asyncio.wait([accepting, ending], return_when=asyncio.FIRST_COMPLETED)
    if not ending.done():  # what accepts ended first: that is a fault
        say(f"cannot pass connections to the program: {accepting.exception()}")
        forward(child, signal.SIGTERM)
    status = await ending
    accepting.cancel()
    await asyncio.gather(accepting, return_exceptions=True)
    await relay.flush()
    return int(status)


def forward(child: Any, number: int) -> None:
    """Send the child the signal that came here."""
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(number)


def end_like(status: int) -> NoReturn:
    """End this process as the child ended."""
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child's core file is enough
        with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler to reset
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
        os._exit(128 - status)
    os._exit(status)  # transfers that did not end in time are dropped here


def cannot_run(program: str, error: OSError) -> NoReturn:
    """End this process because the program could not be started: for good, unless the fault may pass."""
    if error.errno in PASSING_FAULTS:
        say(f"cannot run {program} now: {error.strerror}")
        sys.exit(1)
    refuse(f"Cannot run {program}: {error.strerror}")


def main(argv: List[str]) -> None:
    """Run the program that the arguments name."""
    if len(argv) < 5 or argv[1] != "--folder" or argv[3] != "--":
        refuse("relay.py is started by jlabd: relay.py --folder FOLDER -- PROGRAM [ARGUMENTS]")
    listener = listening_socket()
    with contextlib.suppress(OSError):
        os.set_inheritable(NOTIFY_FD, False)
    command, address = private_address(argv[4:], argv[2])
    command[0] = find_program(command[0])
    if address is not None:
        listener.set_inheritable(False)
        end_like(asyncio.run(run(command, address, listener)))
    try:
        os.execv(command[0], command)  # noqa: S606  (no shell is wanted)
    except OSError as error:
        cannot_run(command[0], error)


if __name__ == "__main__":
    main(sys.argv)
