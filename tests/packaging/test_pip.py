"""The way for other Linuxes: `pip install jlabd` into a virtual environment, then `jlabctl install-unit`."""

import shutil
import subprocess
import sys
import zipfile

import pytest
from rig.waiting import until

from tests.packaging.booted import web
from tests.packaging.conftest import running
from tests.packaging.shipped import PYTHON, REPOSITORY, PlainMachine

PLACE = "/opt/venv"
UNIT = "/etc/systemd/system/jlabd.service"


@pytest.fixture(scope="module")
def wheels(packages, builder, tmp_path_factory):
    """A folder with the wheel of jlabd, and those that it needs."""
    place = tmp_path_factory.mktemp("wheels")
    source = shutil.copytree(packages.source, place / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, place / "wheels", source], check=True, capture_output=True)
    shutil.copytree(
        builder.fetch_wheels(builder.find_python(), source / builder.LOCK), place / "wheels", dirs_exist_ok=True
    )
    return place / "wheels"


@pytest.fixture
def trixie(boot_root_of, user_venv, builder, wheels):
    """A system with systemd 257, nginx and a Python, without jlabd."""
    yield from running(PlainMachine(boot_root_of("trixie"), user_venv, builder, wheels))


def test_wheel_is_whole(wheels):
    """Templates, launcher, units and manual pages are in the wheel; tests and the packagers' tools are not."""
    (wheel,) = wheels.glob("jlabd-*.whl")
    names = [name.partition(".data/data/")[2] or name for name in zipfile.ZipFile(wheel).namelist()]
    shared = ["jlabd.service", "jlabd-labs.service", "nginx.conf", "jlabd.toml", "jlabd.schema.json"]
    expected = {"jlabd/main.py", "jlabd/launcher/lab.py", "jlabd/front/templates/standing.html.j2", "jlabd/py.typed"}
    expected |= {f"share/jlabd/{name}" for name in [*shared, "supervisor-jlabd.ini"]} | {"share/man/man1/jlabctl.1"}
    assert expected <= set(names)
    assert not any(name.startswith(("tests/", "packaging/", "benchmarks/")) for name in names)


@pytest.mark.root
def test_the_way(trixie):
    """Install, make it a service, work, install again, edit, and take it away: nothing is lost or left by surprise."""
    machine = trixie.boot()
    machine.run("sed", "-i", "s/^user .*/user www-data;/", "/etc/nginx/nginx.conf")  # as Debian has it
    machine.run(f"{PYTHON}/bin/python3.12", "-m", "venv", PLACE)
    machine.run(f"{PLACE}/bin/pip", "install", "--quiet", "--no-index", "--find-links", REPOSITORY, "jlabd")
    jlabctl = f"{PLACE}/bin/jlabctl"
    shown = machine.run("setpriv", "--reuid=ann", "--clear-groups", jlabctl, "install-unit", "--print")
    assert f"ExecStart={PLACE}/bin/jlabd" in shown
    assert not machine.inside(UNIT).exists()
    refused = machine.run("setpriv", "--reuid=ann", "--clear-groups", jlabctl, "install-unit", check=False)
    assert "only root" in refused

    assert f"written  {UNIT}" in machine.run(jlabctl, "install-unit")
    assert machine.run("systemd-analyze", "verify", "--man=no", "jlabd.service", "jlabd-labs.service") == ""
    assert "jlabd:x:" in machine.run("getent", "group", "jlabd")
    path = machine.inside("/etc/jlabd.toml")
    path.write_text(path.read_text() + web("a", user='"ann"'))
    machine.systemctl("start", "nginx")
    machine.systemctl("enable", "--now", "jlabd")
    machine.run("jlabctl", "check")
    pid = machine.wait_for("a")["pid"]
    until(lambda: machine.fetch("/a/") == (200, str(pid)), 30, "nginx to lead to the instance")
    machine.systemctl("restart", "jlabd")
    assert machine.wait_for("a")["pid"] == pid

    assert f"is there {UNIT}" in machine.run(jlabctl, "install-unit")
    unit = machine.inside(UNIT)
    unit.write_text(unit.read_text() + "# mine\n")
    assert "not as jlabctl wrote it" in machine.run(jlabctl, "install-unit", check=False)
    machine.run(jlabctl, "install-unit", "--force")
    assert "# mine" in machine.inside(f"{UNIT}.old").read_text()
    machine.systemctl("reload", "jlabd")
    assert machine.wait_for("a")["pid"] == pid

    machine.run(jlabctl, "install-unit", "--uninstall")
    until(lambda: machine.processes() == [], 5, "nothing to be left")
    assert machine.systemctl("list-unit-files", "--no-legend", "jlabd*", check=False) == ""
    until(lambda: machine.fetch("/a/")[0] == 404, 30, "nginx to forget the instance")
    assert "[instance.a]" in path.read_text()
    assert machine.run("sh", "-c", "ls /usr/local/bin /etc/nginx/conf.d").split() == [
        "/etc/nginx/conf.d:",
        "/usr/local/bin:",
    ]
