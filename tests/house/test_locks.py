"""The lock files are in step with pyproject.toml; `make lock` brings them there."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.tree import TOP

LOCK = TOP / "packaging/lock"
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())
PIN = re.compile(r"^(\S+)==([^\s;]+)(?: ;.*)? \\\n((?:    --hash=.*\n)+)((?:    #.*\n)*)", re.MULTILINE)


def _asked(stage):
    metadata = PROJECT["project"]
    extras = metadata["optional-dependencies"]
    wanted = list(metadata["dependencies"])
    if stage != "runtime":
        wanted += extras["demo"]
    if stage == "test":
        wanted += extras["test"]
    return {canonicalize_name(r.name): r for r in map(Requirement, wanted)}


def _pins(name):
    """Return {(package, version): why it is there} of one lock file."""
    return {(name, version): via for name, version, _, via in PIN.findall((LOCK / name).read_text())}


@pytest.mark.parametrize("stage", ["runtime", "demo", "test"])
def test_lock_has_what_the_project_asks_for(stage):
    """Each lock pins exactly the direct requirements of its stage, at versions that they allow."""
    asked = _asked(stage)
    direct = {
        name: version for (name, version), via in _pins(f"{stage}.txt").items() if "jlabd (pyproject.toml)" in via
    }
    assert direct.keys() == asked.keys()
    assert [name for name, version in direct.items() if version not in asked[name].specifier] == []


def test_stages_agree():
    """A later stage keeps every pin of the one before, so that it can be installed on top of it."""
    assert _pins("runtime.txt").keys() < _pins("demo.txt").keys() < _pins("test.txt").keys()


def test_build_requirement_is_locked():
    """What builds the project is in the demo's lock: installing the checkout needs no network."""
    asked = [Requirement(line.split("#")[0]) for line in (LOCK / "build.in").read_text().splitlines() if line[0] != "#"]
    assert [str(r) for r in asked] == PROJECT["build-system"]["requires"]
    pins = dict(_pins("demo.txt").keys())
    assert all(pins[r.name] in r.specifier for r in asked)


def test_every_pin_has_a_hash():
    """No requirement escapes the pattern that these tests read, so each one has a hash."""
    for path in LOCK.glob("*.txt"):
        names = [line for line in path.read_text().splitlines() if line[:1] not in (" ", "#", "")]
        assert len(names) == len(_pins(path.name)), path.name
