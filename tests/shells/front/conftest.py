"""A short folder for sockets, and the listeners in it."""

import shutil
import tempfile
from pathlib import Path

import pytest

from jlabd.front.listeners import Listeners
from jlabd.spec import DaemonSpec, InstanceSpec, UnixListen


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
