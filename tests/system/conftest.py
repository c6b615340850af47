"""Fixtures of the system tests: real daemons that leave nothing behind."""

import signal

import pytest
from rig.daemon import Jlabd
from rig.nginx import Nginx
from rig.processes import with_argument


@pytest.fixture
def jlabd():
    """Make daemons; in the end all are stopped, and nothing that they ever started may live."""
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


@pytest.fixture
def nginx(nginx_binary):
    """An unprivileged nginx, not started yet."""
    server = Nginx(nginx_binary).prepare()
    yield server
    server.stop()
