"""The way an administrator goes: signed packages, `dnf` and `systemctl`, the system's own nginx, and people at work."""

import json

import pytest
from rig.waiting import until

from tests.packaging.booted import INSIDE, web
from tests.packaging.policy import Policy
from tests.packaging.shipped import REPOSITORY

pytestmark = pytest.mark.root

HOST = "lab.example.com"


def edit(machine, text):
    """Add to /etc/jlabd.toml as an administrator would: by appending, and naming the public host."""
    path = machine.inside("/etc/jlabd.toml")
    config = path.read_text().replace('# server_name = "lab.example.com"', f'server_name = "{HOST}"', 1)
    path.write_text(config + text)


def cell(machine, kernel, code):
    """Run a cell in ann's lab through nginx; return (kernel, output)."""
    token = machine.run("jlabctl", "url", "ann", "--token").strip().partition("token=")[2]
    command = [
        f"{machine.venv}/bin/python",
        f"{INSIDE}/tests/packaging/cell.py",
        "80",
        "/ann/",
        token,
        kernel,
        code,
        HOST,
    ]
    return json.loads(machine.run("env", f"PYTHONPATH={INSIDE}/tests", *command).splitlines()[-1])


def warm_lab(machine):
    """Return the pid of ann's lab once it is ready; it was forked from a warm parent."""
    entry = machine.wait_for("ann")
    assert (entry["launcher"], entry["launcher_reason"]) == ("warm", None)
    return entry["pid"]


def version(machine):
    """Return the version of the jlabd that runs."""
    return machine.document()["version"]


def rubbish(machine):
    """Return what has our name on the machine, but for what an administrator may want to keep and what we mounted."""
    kept = (
        "/etc/jlabd.toml.rpm",
        "/var/log/jlabd",
        "/var/lib/jlabd",
        "/etc/yum.repos.d/",
        "/var/cache/dnf",
        "/var/tmp/",
    )
    found = machine.run("find", "/", "-xdev", "-name", "*jlab*", "-not", "-path", "/proc/*").splitlines()
    found += machine.run("find", "/run", "-name", "*jlab*").splitlines()
    return [path for path in found if not path.startswith((*kept, INSIDE, str(machine.venv)))]


def assert_gone(machine):
    """The package was removed: nothing runs, nothing lies about, and nginx does not miss anything."""
    assert machine.processes() == []
    running = machine.run("pgrep", "--full", "--list-full", "jlabd", check=False).splitlines()
    assert [line for line in running if "gpg-agent" not in line] == [], "that one is dnf's"
    assert machine.systemctl("list-units", "--all", "--no-legend", "jlabd*") == ""
    assert machine.systemctl("list-unit-files", "--no-legend", "jlabd*", check=False) == ""
    assert rubbish(machine) == []


@pytest.mark.jupyter
def test_the_way(el9):
    """Install, start, edit, reload, work, upgrade, reboot, downgrade, remove: no step costs anybody anything."""
    machine = el9.boot()
    machine.dnf("install", "jlabd")
    machine.systemctl("start", "nginx")
    assert machine.systemctl("is-enabled", "jlabd", check=False).strip() == "disabled"
    assert "jlabd:x:" in machine.run("getent", "group", "jlabd")
    machine.systemctl("enable", "--now", "jlabd")
    assert "installed from a package" in machine.run("jlabctl", "install-unit", check=False)
    assert machine.document()["instances"] == []
    assert machine.rpm("--verify", "jlabd") == ""

    edit(machine, "")
    machine.run("jlabctl", "add", "ann", "--venv", str(machine.venv))
    assert "ok" in machine.run("jlabctl", "check")
    machine.systemctl("reload", "jlabd")
    pid = warm_lab(machine)
    assert machine.run("ps", "-o", "user=", str(pid)).strip() == "ann"
    kernel, _ = cell(machine, "new", "precious = 42")
    first, main_pid = version(machine), machine.show("MainPID")

    machine.offer("new")
    said = machine.dnf("upgrade", "jlabd")
    assert version(machine) == f"{first}.1", said
    assert (machine.show("MainPID"), warm_lab(machine)) == (main_pid, pid)
    assert cell(machine, kernel, "precious")[1] == "42"
    assert "[instance.ann]" in machine.inside("/etc/jlabd.toml").read_text()
    assert "new in this version" in machine.inside("/etc/jlabd.toml.rpmnew").read_text()
    assert machine.rpm("--verify", "jlabd", check=False).split() == ["S.5....T.", "c", "/etc/jlabd.toml"]

    machine.dnf("downgrade", "jlabd")
    assert version(machine) == first
    assert (machine.show("MainPID"), warm_lab(machine)) == (main_pid, pid)
    assert cell(machine, kernel, "precious + 1")[1] == "43"

    machine.systemctl("enable", "nginx")
    machine.reboot()
    warm_lab(machine)
    assert cell(machine, "new", "'again'")[1] == "'again'"

    machine.dnf("remove", "jlabd")
    assert_gone(machine)
    assert "[instance.ann]" in machine.inside("/etc/jlabd.toml.rpmsave").read_text()
    assert list(machine.inside("/var/log/jlabd").iterdir())
    assert machine.fetch("/ann/", HOST)[0] == 404
    machine.run("nginx", "-t")


def test_without_nginx(el9):
    """Where there is no nginx jlabd says so, and all else works."""
    el9.boot()
    el9.run("rm", "/usr/sbin/nginx")
    el9.dnf("install", "jlabd")
    edit(el9, web("a", user='"ann"'))
    el9.systemctl("enable", "--now", "jlabd")
    pid = el9.wait_for("a")["pid"]
    assert el9.ask("a") == (200, str(pid))
    assert "nginx" in el9.document()["nginx"]["error"]
    assert el9.rpm("--verify", "jlabd", check=False).split() == ["S.5....T.", "c", "/etc/jlabd.toml"]
    el9.dnf("remove", "jlabd")
    assert_gone(el9)


def test_selinux_module_comes_along(el9, debian_policy):
    """Where there is a policy its module comes with jlabd, is linked into it, and goes with jlabd."""
    el9.boot()
    Policy.of(debian_policy, el9.inside("/"), kind="targeted")
    el9.dnf("install", "selinux-policy-targeted")
    el9.dnf("install", "jlabd")
    listed = ["semodule", "-s", "targeted", "--list=full"]
    assert ["200", "jlabd", "pp"] in [line.split() for line in el9.run(*listed).splitlines()]
    contexts = "/etc/selinux/targeted/contexts/files/file_contexts"
    assert "jlabd_exec_t" in el9.inside(contexts).read_text()
    el9.offer("new")
    el9.dnf("upgrade", "jlabd")
    assert el9.run(*listed).count("jlabd") == 1
    assert version_of(el9, "jlabd-selinux") == version_of(el9, "jlabd")
    said = el9.dnf("remove", "jlabd", "jlabd-selinux")
    assert "jlabd" not in el9.run(*listed), said
    assert "jlabd" not in el9.inside(contexts).read_text()


def version_of(machine, package):
    """Return the version of a package that is installed."""
    return machine.rpm("--query", "--queryformat", "%{VERSION}", package)


def test_upgrade_that_cannot_run(el9):
    """With a configuration that cannot be read an upgrade says so, and the jlabd that runs goes on."""
    el9.boot()
    el9.dnf("install", "jlabd")
    edit(el9, web("a", user='"ann"'))
    el9.systemctl("start", "jlabd")
    pid, first = el9.wait_for("a")["pid"], version(el9)
    edit(el9, "[nonsense]\n")
    el9.offer("new")
    said = el9.dnf("upgrade", "jlabd")
    assert "nonsense" in said
    assert "jlabd goes on with the version it had" in said
    assert version(el9) == first
    path = el9.inside("/etc/jlabd.toml")
    path.write_text(path.read_text().replace("[nonsense]\n", ""))
    # The package asked by signal too: on a slow machine it is that one that comes to its end now, and ours is cut off.
    el9.run("jlabctl", "reexec", check=False)
    until(lambda: (el9.document() or {}).get("version") == f"{first}.1", 30, "the new version")
    assert el9.wait_for("a")["pid"] == pid


def test_removed_after_it_failed(el9):
    """Labs that a jlabd which had failed for good left running are ended when the package is removed."""
    el9.drop_in("[Unit]\nStartLimitBurst=2\n")
    el9.boot()
    el9.dnf("install", "jlabd")
    edit(el9, web("a", user='"ann"'))
    el9.systemctl("start", "jlabd")
    el9.wait_for("a")
    edit(el9, "[nonsense]\n")
    el9.systemctl("restart", "jlabd", check=False)
    until(lambda: el9.show("ActiveState") == "failed", 30, "jlabd to be given up")
    assert el9.processes()
    el9.dnf("remove", "jlabd")
    el9.systemctl("reset-failed")
    el9.run("rm", "-r", "/etc/systemd/system/jlabd.service.d")
    until(lambda: el9.processes() == [], 5)
    assert_gone(el9)


def test_the_core_of_it_on_el10(el10):
    """With systemd 257, too: start, reload, restart, crash, watchdog, upgrade, downgrade, reboot and removal."""
    old, new = (f"{REPOSITORY}/el10/{name}" for name in ("old", "new"))
    el10.boot()
    el10.run("rpmkeys", "--import", f"{REPOSITORY}/key.asc")
    el10.run("sh", "-c", f"rpm --upgrade {old}/el-base-*.rpm {old}/nginx-filesystem-*.rpm {old}/jlabd-[0-9]*.rpm")
    assert el10.run("systemd-analyze", "verify", "--man=no", "jlabd.service", "jlabd-labs.service") == ""
    el10.systemctl("start", "nginx")
    el10.systemctl("enable", "--now", "jlabd")
    assert el10.rpm("--verify", "jlabd") == ""
    edit(el10, web("a", user='"ann"'))
    el10.systemctl("reload", "jlabd")
    pid, main_pid, first = el10.wait_for("a")["pid"], el10.show("MainPID"), version(el10)
    el10.run("sh", "-c", f"rpm --upgrade {new}/jlabd-[0-9]*.1-1.el10.*.rpm")
    assert (version(el10), el10.show("MainPID")) == (f"{first}.1", main_pid)
    el10.run("sh", "-c", f"rpm --upgrade --oldpackage {old}/jlabd-[0-9]*.rpm")
    assert (version(el10), el10.show("MainPID")) == (first, main_pid)
    el10.systemctl("restart", "jlabd")
    el10.systemctl("kill", "-s", "KILL", "jlabd")
    until(lambda: el10.show("ActiveState") == "active" and el10.document(), 30, "jlabd to be back")
    assert el10.fetch("/a/", HOST) == (200, str(pid))
    el10.drop_in("[Service]\nWatchdogSec=4s\n")
    el10.systemctl("daemon-reload")
    el10.systemctl("restart", "jlabd")
    frozen = el10.show("MainPID")
    el10.systemctl("kill", "--kill-whom=main", "--signal=STOP", "jlabd")
    until(lambda: el10.show("MainPID") not in {"0", frozen} and el10.document(), 30, "jlabd to be replaced")
    assert "Watchdog timeout" in el10.journal()
    assert el10.wait_for("a")["pid"] == pid
    el10.run("rm", "-r", "/etc/systemd/system/jlabd.service.d")
    el10.reboot()
    el10.systemctl("start", "nginx")
    assert el10.fetch("/a/", HOST) == (200, str(el10.wait_for("a")["pid"]))
    el10.rpm("--erase", "jlabd")
    assert_gone(el10)
    assert el10.fetch("/a/", HOST)[0] == 404
