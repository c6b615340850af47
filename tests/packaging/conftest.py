"""Fixtures of the tests in a booted systemd, and of the packages."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.booted import TOP, Machine, sweep
from tests.packaging.repository import Packages, Repository, load_builder
from tests.packaging.shipped import PackagedMachine

PROGRAMS = {"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap"}
BUILDERS = {
    "rpmbuild": "rpm",
    "rpmsign": "rpm",
    "checkmodule": "checkpolicy",
    "createrepo_c": "createrepo-c",
    "gpg": "gpg",
}
BUILDERS |= {"semodule_package": "semodule-utils"}
POLICY_TOOLS = {"semodule": "policycoreutils", "sesearch": "setools", "matchpathcon": "selinux-utils"}
EMULATOR = {"qemu-system-x86_64": "qemu-system-x86", "mkfs.ext4": "e2fsprogs"}


def require(programs, purpose):
    """Skip, and say so, where a program is missing."""
    for program, package in programs.items():
        if shutil.which(program) is None:
            pytest.skip(f"NO {program}: apt install {package}, to test {purpose}")


@pytest.fixture(scope="session")
def boot_root_of(pytestconfig):
    """A function from a suite of Debian to the system that is booted; made now if it is not there: a minute."""
    if os.geteuid() != 0:
        pytest.skip("NEEDS ROOT: run `make test` as root to test jlabd in a booted systemd")
    require(PROGRAMS, "jlabd in a booted systemd")
    sweep()
    script = TOP / "tests/setup/bootroot.sh"

    def make(suite):
        with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            subprocess.run([script, suite], check=True)
        said = subprocess.run([script, "--path", suite], capture_output=True, text=True, check=True).stdout
        return Path(said.strip())

    return make


@pytest.fixture(scope="session")
def kernel(pytestconfig):
    """A Linux for an emulated machine, fetched now if it is not there."""
    require(EMULATOR, "limits where cgroups have all controllers")
    script = TOP / "tests/setup/kernel.sh"
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        subprocess.run([script], check=True)
    said = subprocess.run([script, "--path"], capture_output=True, text=True, check=True).stdout
    return Path(said.strip())


def running(machine):
    """Yield a machine, and take it down however the test ends."""
    try:
        yield machine
    finally:
        machine.down()


@pytest.fixture
def machine_of(boot_root_of, user_venv):
    """A function from a suite of Debian to a system that is not booted yet."""
    with contextlib.ExitStack() as stack:
        yield lambda suite: stack.enter_context(
            contextlib.contextmanager(running)(Machine(boot_root_of(suite), user_venv))
        )


@pytest.fixture
def machine(machine_of):
    """A system that is not booted yet: systemd 252."""
    return machine_of("bookworm")


@pytest.fixture(scope="session")
def builder():
    """packaging/rpm.py as a module, where it can build."""
    require(BUILDERS, "the packages")
    module = load_builder()
    try:
        module.find_python()
    except module.BuildFailedError as error:
        pytest.skip(f"NO PACKAGES: {error}")
    return module


@pytest.fixture(scope="session")
def packages(builder, tmp_path_factory):
    """The packages of this checkout."""
    return Packages(builder, tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def repository(packages, tmp_path_factory):
    """Signed repositories with this version of jlabd, and the next."""
    made = Repository(packages, tmp_path_factory.mktemp("repository"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def debian_policy():
    """The files of Debian's SELinux policy."""
    require(POLICY_TOOLS, "the SELinux module")
    script = TOP / "tests/setup/policy.sh"
    subprocess.run([script], check=True)
    place = Path(subprocess.run([script, "--path"], capture_output=True, text=True, check=True).stdout.strip())
    if not place.is_dir():
        pytest.skip("NO POLICY: apt could not download selinux-policy-default")
    return place


@pytest.fixture
def el9(boot_root_of, user_venv, repository):
    """A system as EL 9 has it, not booted yet: systemd 252, dnf, nginx, Python 3.12."""
    yield from running(PackagedMachine(boot_root_of("bookworm"), user_venv, repository, "el9"))


@pytest.fixture
def el10(boot_root_of, user_venv, repository):
    """A system as EL 10 has it, not booted yet: systemd 257."""
    yield from running(PackagedMachine(boot_root_of("trixie"), user_venv, repository, "el10"))
