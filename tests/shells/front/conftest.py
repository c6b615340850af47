"""A short folder for sockets, the listeners in it, stand-ins, and a server that takes its time."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from jlabd.front import door
from jlabd.front.listeners import Listeners
from jlabd.front.standin import StandIns
from jlabd.spec import DaemonSpec, InstanceSpec, TcpListen, UnixListen
from tests.shells.front.slow_lab import server


@pytest.fixture
def runtime():
    """A runtime folder with a short path, as unix sockets need it."""
    folder = Path(tempfile.mkdtemp(prefix="jl", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def listeners(runtime):
    """Listeners in the runtime folder, for a daemon without a group of nginx."""
    return Listeners(DaemonSpec(runtime_dir=str(runtime)), None)


@pytest.fixture
def spec(runtime):
    """An instance on its own unix socket."""
    return InstanceSpec("alice", UnixListen(f"{runtime}/sockets/alice.sock"))


@pytest.fixture
async def stand_ins(monkeypatch):
    """Stand-ins that end with the test, and are quick to accept."""
    monkeypatch.setattr(door, "GRACE_S", 0.05)
    made = StandIns()
    yield made
    await made.close()


@pytest.fixture
def sock(listeners, spec):
    """The instance's listening socket."""
    yield listeners.open(spec)
    listeners.close("alice")


@pytest.fixture
def other(listeners, spec):
    """The listening socket of another instance, on a port."""
    yield listeners.open(replace(spec, name="bob", listen=TcpListen("127.0.0.1", 0)))
    listeners.close("bob")


@pytest.fixture
async def lab(sock):
    """A server that shares the instance's socket."""
    async with server(sock) as found:
        yield found


@pytest.fixture
async def http(sock):
    """A client with a connection of its own for each request."""
    connector = aiohttp.UnixConnector(sock.getsockname(), force_close=True, limit=0)
    async with aiohttp.ClientSession("http://lab", connector=connector) as session:
        yield session
