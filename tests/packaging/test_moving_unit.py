"""docs/moving.md in a really booted systemd: the instance of a hand-made template becomes one of jlabd's."""

import pytest
from rig.guide import Guide
from rig.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.jupyter]

GUIDE = Guide("moving.md")
CONFIG = """
[nginx]
enabled = false
"""


def test_move_from_a_unit(machine):
    """Ann's lab runs as a unit; the page's commands are given; it runs under jlabd, and not as a unit any more."""
    for path, text in GUIDE.files.items():
        if "systemd" in path:
            machine.put(path, text)
    machine.put("/etc/jlabd.toml", CONFIG)
    machine.put("/etc/jlabd.d/README", "Instances of this machine.\n")
    machine.boot()
    machine.run("ln", "-s", str(machine.venv), "/opt/jupyterlab")
    # As an administrator has it by then: enabled, running, and jlabd beside it.
    machine.systemctl("enable", "--now", "jupyter@ann.service")
    machine.systemctl("start", "jlabd")
    until(lambda: answers(machine), 90, "the lab to answer as a unit", every_s=0.5)

    machine.run("bash", "-ec", GUIDE.commands["unit"])
    machine.run("bash", "-ec", GUIDE.commands["unit-move"])
    machine.wait_for("ann", timeout_s=90)
    assert answers(machine)
    entry = machine.instance("ann")
    assert (entry["user"], entry["listen"]) == ("ann", "tcp:127.0.0.1:8891")
    environment = machine.inside(f"/proc/{entry['pid']}/environ").read_text()
    assert "\0OMP_NUM_THREADS=4\0" in environment
    assert machine.systemctl("is-active", "jupyter@ann.service", check=False).strip() != "active"
    assert machine.systemctl("is-enabled", "jupyter@ann.service", check=False).strip() == "disabled"


def answers(machine):
    """Return whether a JupyterLab answers on Ann's port."""
    program = (
        "import json, urllib.request\n"
        "for path in ('/api', '/ann/api'):\n"
        "    try: print('version' in json.load(urllib.request.urlopen('http://127.0.0.1:8891' + path, timeout=5)))\n"
        "    except (OSError, ValueError): pass\n"
    )
    return "True" in machine.run(f"{machine.venv}/bin/python", "-c", program, check=False)
