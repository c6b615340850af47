"""The doctor tells of labs that had to start cold."""

import pytest

from jlabd import __version__
from jlabd.doctor.configuration import about_daemon
from jlabd.doctor.findings import Grade

DOCUMENT = {"version": __version__, "pid": 1, "config": {"error": None}, "nginx": {"ok": True}}


@pytest.mark.parametrize(
    ("reason", "told"),
    [("importing it starts a thread", True), ("warm = false", False), (None, False)],
)
def test_cold_labs(reason, told):
    """A lab that could not be warm is named with the reason; one that was meant to be cold is not."""
    entry = {"name": "alice", "state": "ready", "reason": "", "launcher": "cold", "launcher_reason": reason}
    findings = [finding for finding in about_daemon(DOCUMENT | {"instances": [entry]}) if "cold" in finding.sentence]
    assert [finding.grade for finding in findings] == [Grade.ADVICE] * told
    assert all("alice" in finding.sentence and reason in finding.sentence for finding in findings)
