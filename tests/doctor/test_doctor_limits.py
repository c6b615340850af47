"""The doctor, and the check before it, look whether limits can be enforced."""

from pathlib import Path
from types import MappingProxyType

import pytest

from jlabd import main
from jlabd.doctor.findings import Grade
from jlabd.doctor.limits import examine
from jlabd.processes import cgroup
from jlabd.processes.cgroup_trees import base_folder
from jlabd.spec import Configuration, InstanceSpec, Limits, UnixListen

ALL = "cpu memory pids"


class Machine:
    """A cgroup file system whose daemon is in `place`; files are made as the kernel would show them."""

    def __init__(self, top, place):
        self.top = top
        self.place = top / place
        self.has(top, ALL)

    def has(self, folder, controllers, handed_down=""):
        """Let a cgroup have these controllers, and those below it those that are handed down."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.controllers").write_text(f"{controllers}\n")
        (folder / "cgroup.subtree_control").write_text(f"{handed_down}\n")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    made = Machine(tmp_path, "system.slice/jlabd.service")
    monkeypatch.setattr(cgroup, "mount_points", lambda: [str(made.top)])
    monkeypatch.setattr(cgroup, "folder_of", lambda _: str(made.place))
    return made


def configuration(**limits):
    """Return a configuration with one instance that has these limits, and one that has none."""
    instances = {
        "a": InstanceSpec("a", UnixListen("/a"), limits=Limits(**limits)),
        "b": InstanceSpec("b", UnixListen("/b")),
    }
    return Configuration("/etc/jlabd.toml", instances=MappingProxyType(instances))


def found(pid=7, **limits):
    """Return grade and words of what the doctor finds."""
    return [(finding.grade, f"{finding.sentence}: {finding.fix}") for finding in examine(configuration(**limits), pid)]


def test_no_limits(machine):
    """Whoever asks for nothing is told nothing."""
    assert found() == []


def test_limits_that_hold(machine):
    """Where the labs' cgroups have the controllers there is nothing to do."""
    labs = machine.top / "system.slice/jlabd-labs.service"
    machine.has(labs, ALL, ALL)
    machine.has(Path(base_folder("/run/jlabd", str(labs))), ALL, ALL)
    assert found(memory_max=1 << 30, tasks_max=9) == [
        (Grade.GOOD, "are enforced by the kernel, in the labs' cgroups: ")
    ]


def test_labs_without_delegation(machine):
    """A unit of the labs that lost its delegation is named."""
    machine.has(machine.top / "system.slice/jlabd-labs.service", "")
    ((grade, said),) = found(cpu_quota=1.0)
    assert grade is Grade.WRONG
    assert said.startswith("cpu_quota of a have no effect")
    assert "Delegate=yes back into jlabd-labs.service" in said


def test_labs_in_the_daemons_own_unit(machine):
    """Without the unit of the labs limits do not hold, and the unit is named."""
    machine.has(machine.place, ALL)
    ((grade, said),) = found(memory_high=1 << 30)
    assert grade is Grade.WRONG
    assert "install jlabd-labs.service" in said


def test_a_machine_without_controllers(machine):
    """What the whole machine lacks is said once, and with what to do at the boot."""
    machine.has(machine.top, "cpu pids")
    ((grade, said),) = found(memory_max=1 << 30)
    assert grade is Grade.WRONG
    assert "systemd.unified_cgroup_hierarchy=1" in said


def test_no_daemon(machine):
    """While jlabd does not run it cannot be known where its labs would be."""
    assert [grade for grade, _ in found(pid=None, tasks_max=9)] == [Grade.UNKNOWN]


def test_a_daemon_that_has_just_ended(machine, monkeypatch):
    """A daemon that ends while it is looked at is no reason to fail."""

    def gone(_pid):
        raise FileNotFoundError(2, "No such file or directory", "/proc/7/cgroup")

    monkeypatch.setattr(cgroup, "folder_of", gone)
    assert [grade for grade, _ in found(tasks_max=9)] == [Grade.UNKNOWN]


@pytest.mark.parametrize(("has", "noted"), [(ALL, False), ("cpu", True)])
def test_check_notes_it(machine, tmp_path, capsys, has, noted):
    """`jlabd --check` notes what will have no effect here; the file is in order all the same."""
    machine.has(machine.top, has)
    file = tmp_path / "jlabd.toml"
    instance = '[instance.a]\nuser = "daemon"\nlimits = { tasks_max = 9 }\n'
    file.write_text(f'[daemon]\ninclude = ""\n[nginx]\nenabled = false\n{instance}')
    assert main.check(file) == 0
    said = capsys.readouterr()
    assert said.out == f"{file}: ok\n"
    assert (f"{file}: note: tasks_max of a have no effect: cgroup v2 lacks the controller “pids”" in said.err) is noted
    assert bool(said.err) is noted
