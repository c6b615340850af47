"""Fixtures of the system tests: real daemons that leave nothing behind."""

import tempfile
from pathlib import Path

import pytest
from rig.chromium import chromium
from rig.daemon import daemons
from rig.nginx import Nginx


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Take a picture of what the browser shows when a test fails."""
    report = yield
    visitor = getattr(item, "funcargs", {}).get("visitor")
    if report.failed and call.when == "call" and visitor is not None:
        folder = Path(tempfile.mkdtemp(prefix="jlabd-picture-"))
        report.sections.append(("browser", visitor.picture(folder / "browser.png")))
    return report


@pytest.fixture(scope="module")
def browser():
    """A browser for all tests of a file; not for longer, because its event loop keeps others from running."""
    with chromium() as running:
        yield running


@pytest.fixture
def visitor(browser):
    """Somebody with a window of her own, whom nobody knows."""
    with browser.visitor() as fresh:
        yield fresh


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
