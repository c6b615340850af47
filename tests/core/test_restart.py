"""The restart policy's formula and its clauses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jlabd.core.restart import Decision, backoff, decide
from jlabd.core.state import Actual, Failure
from jlabd.spec import Restart, RestartPolicy

POLICY = RestartPolicy(initial_s=1, factor=2, max_s=60, stable_after_s=120, give_up_after=0)
CRASH = Failure("exited with status 1", ready_for_s=5)


@pytest.mark.parametrize(
    ("count", "jitter", "expected"),
    [(1, 0.0, 0.5), (1, 1.0, 1.0), (2, 0.0, 1.0), (3, 0.5, 3.0), (7, 1.0, 60.0), (10_000, 1.0, 60.0)],
)
def test_backoff_formula(count, jitter, expected):
    """d = min(max, initial * factor^(n-1)), slept as d/2 + U(0, d/2); a huge count overflows nothing."""
    assert backoff(POLICY, count, jitter) == expected


def test_initial_zero_restarts_at_once_always():
    """initial = 0 switches the backoff off."""
    decision = decide(replace(POLICY, initial_s=0), CRASH, 41, 0.9)
    assert decision == Decision(Actual.STARTING, "restarted at once: exited with status 1", 42)


def test_failures_in_a_row_grow_the_delay():
    """The third failure in a row waits four times as long as the first."""
    decision = decide(POLICY, CRASH, 2, 1.0)
    assert decision == Decision(Actual.BACKOFF, "exited with status 1 (3 failures in a row)", 3, 4.0)


def test_stable_incarnation_restarts_at_once():
    """After stable_after of ready the first restart is immediate and the count begins anew."""
    decision = decide(POLICY, Failure("exited with status 1", ready_for_s=120), 9, 0.9)
    assert decision == Decision(Actual.STARTING, "restarted at once: exited with status 1", 1)


def test_give_up():
    """give_up_after failures in a row are failed."""
    policy = replace(POLICY, give_up_after=3)
    assert decide(policy, CRASH, 1, 0.0).to is Actual.BACKOFF
    decision = decide(policy, CRASH, 2, 0.0)
    assert decision == Decision(Actual.FAILED, "exited with status 1; given up after 3 failures in a row", 3)


@pytest.mark.parametrize(
    ("policy", "failure", "to"),
    [
        (Restart.ALWAYS, Failure("", clean=True, ready_for_s=5), Actual.BACKOFF),
        (Restart.ON_FAILURE, Failure("", clean=True, ready_for_s=5), Actual.STOPPED),
        (Restart.ON_FAILURE, Failure("", clean=True), Actual.BACKOFF),
        (Restart.ON_FAILURE, Failure("", ready_for_s=5), Actual.BACKOFF),
        (Restart.NEVER, Failure("", clean=True, ready_for_s=5), Actual.STOPPED),
        (Restart.NEVER, Failure("", clean=True), Actual.FAILED),
        (Restart.NEVER, Failure("", ready_for_s=5), Actual.FAILED),
        (Restart.ALWAYS, Failure("", permanent=True, ready_for_s=500), Actual.FAILED),
    ],
)
def test_policies(policy, failure, to):
    """One clause per policy; status 0 before it was ever ready is a failure too."""
    assert decide(replace(POLICY, policy=policy), failure, 0, 0.0).to is to
