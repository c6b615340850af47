"""Fixtures of the system tests: real daemons that leave nothing behind."""

import pytest
from rig.daemon import daemons
from rig.nginx import Nginx


@pytest.fixture
def jlabd():
    """Make daemons; in the end all are stopped, and nothing that they ever started may live."""
    with daemons() as make:
        yield make


@pytest.fixture
def nginx(nginx_binary):
    """An unprivileged nginx, not started yet."""
    server = Nginx(nginx_binary).prepare()
    yield server
    server.stop()
