"""Fixtures of the tests in a booted systemd."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.booted import TOP, Machine, sweep


@pytest.fixture(scope="session")
def boot_root(pytestconfig):
    """The system that is booted; made now if it is not there, which takes a minute."""
    if os.geteuid() != 0:
        pytest.skip("NEEDS ROOT: run `make test` as root to test jlabd in a booted systemd")
    for program, package in (("systemd-nspawn", "systemd-container"), ("mmdebstrap", "mmdebstrap")):
        if shutil.which(program) is None:
            pytest.skip(f"NO {program}: apt install {package}, to test jlabd in a booted systemd")
    sweep()
    script = TOP / "tests/setup/bootroot.sh"
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        subprocess.run([script], check=True)
    return Path(subprocess.run([script, "--path"], capture_output=True, text=True, check=True).stdout.strip())


@pytest.fixture
def machine(boot_root, user_venv):
    """A system that is not booted yet."""
    made = Machine(boot_root, user_venv)
    try:
        yield made
    finally:
        made.down()
