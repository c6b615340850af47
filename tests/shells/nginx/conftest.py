"""Real nginx in two ways, and labs in small."""

import os
import shutil
import tempfile
from pathlib import Path

import aiohttp
import pytest
from rig.certificates import Authority

from tests.shells.nginx.servers import NOBODY, Labs, Server, quick
from tests.shells.nginx.site import BOB, LAB, Site


@pytest.fixture
def folder():
    """A folder with a short path that every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="jl", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def _server(folder, binary, user):
    server = Server(binary, folder, user)
    yield server
    server.stop()


@pytest.fixture
def unprivileged(folder, nginx_binary):
    """The nginx of the Python package, run by an ordinary user."""
    yield from _server(folder, nginx_binary, NOBODY.pw_uid if os.geteuid() == 0 else None)


@pytest.fixture(params=["unprivileged", pytest.param("system", marks=pytest.mark.root)])
def server(request, folder):
    """Both: the nginx of the Python package run by an ordinary user, and the system's run by root."""
    if request.param == "unprivileged":
        yield request.getfixturevalue("unprivileged")
    else:
        yield from _server(folder, request.getfixturevalue("system_nginx"), None)


@pytest.fixture
async def labs(folder):
    """Where labs in small are started."""
    started = Labs(folder)
    yield started
    started.go_on.set()
    await started.stop()


@pytest.fixture
async def http():
    """A client that follows no redirect and keeps no cookie."""
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(20), skip_auto_headers=["Accept-Encoding"]
    ) as session:
        yield session


@pytest.fixture
def publisher(server):
    """A publisher for `server`."""
    return quick(server.run)


@pytest.fixture(scope="module")
def authority():
    """An authority in a folder that the user may enter whom nginx runs as."""
    folder = Path(tempfile.mkdtemp(prefix="jlca", dir="/tmp"))
    folder.chmod(0o755)
    yield Authority(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def certificates(authority):
    """Certificates of the shared host and of bob's."""
    pairs = authority.certificate(LAB, "*.example.com", "127.0.0.1"), authority.certificate(BOB)
    authority.lock("locked.key")
    authority.lend()
    return pairs


@pytest.fixture
def site(server, authority, certificates):
    """Both kinds of nginx."""
    return Site(server, authority, certificates)


@pytest.fixture
def small_site(unprivileged, authority, certificates):
    """The nginx that needs no root."""
    return Site(unprivileged, authority, certificates)
