"""What people are told of instances."""

from dataclasses import replace

import pytest

from jlabd.core.state import Actual, Instance
from jlabd.daemon.chronicle import Chronicle, is_news
from jlabd.status.journal import Journal

READY = Instance(actual=Actual.READY, reason="ready after 1.0 s", incarnation=1, pid=7)


@pytest.mark.parametrize("actual", [Actual.STARTING, Actual.READY, Actual.UNHEALTHY])
def test_memory_that_ran_out_is_told(actual, capsys):
    """Processes killed for want of memory are a warning in log and journal, also where reasons often change."""
    before = replace(READY, actual=actual)
    after = replace(before, memory_kills=1, reason="a process of it was killed by the kernel: memory limit 2 GiB")
    journal = Journal()
    Chronicle(journal).note("a", before, after)
    (event,) = journal.recent(10)
    assert (event["kind"], event["state"], event["reason"]) == ("warning", None, after.reason)
    assert f"a is {actual.value}: {after.reason}." in capsys.readouterr().out


def test_probes_that_fail_again_are_no_news():
    """The same once more, with another number, is told nobody."""
    before = replace(READY, actual=Actual.UNHEALTHY, reason="no answer (1 of 3 times in a row)", memory_kills=2)
    assert not is_news(before, replace(before, reason="no answer (2 of 3 times in a row)"))
