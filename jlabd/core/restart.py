"""The restart policy: what follows when an incarnation ended although nobody asked for it."""

from __future__ import annotations

from dataclasses import dataclass

from jlabd.core.state import Actual, Failure
from jlabd.spec import Restart, RestartPolicy

LARGEST_EXPONENT = 64
"""factor is at most 10: 10**64 is a float, and any sensible `max` is far below it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What comes next: `to` is starting, backoff (for `delay_s`), failed or stopped; `failures` is the new count."""

    to: Actual
    reason: str
    failures: int
    delay_s: float = 0.0


def decide(policy: RestartPolicy, failure: Failure, failures: int, jitter: float) -> Decision:
    """Judge `failure` of an incarnation that `failures` failed ones in a row came before; `jitter` is in [0, 1)."""
    stable = failure.ready_for_s is not None and failure.ready_for_s >= policy.stable_after_s
    count = 1 if stable else failures + 1
    if failure.permanent:
        return Decision(Actual.FAILED, failure.reason, count)
    if not _comes_back(policy, failure):
        return _stays_down(policy, failure, count)
    if policy.give_up_after and count >= policy.give_up_after:
        return Decision(Actual.FAILED, f"{failure.reason}; given up after {_times(count)} in a row", count)
    delay_s = 0.0 if stable else backoff(policy, count, jitter)
    if delay_s == 0.0:
        return Decision(Actual.STARTING, f"restarted at once: {failure.reason}", count)
    return Decision(Actual.BACKOFF, f"{failure.reason} ({_times(count)} in a row)", count, delay_s)


def backoff(policy: RestartPolicy, count: int, jitter: float) -> float:
    """Return the delay in seconds before the `count`-th restart in a row: half fixed, half by chance.

    d = min(max, initial * factor^(count - 1)), of which d/2 + jitter * d/2 is slept: instances that failed together do
    not return together ("equal jitter": Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    longest = min(policy.max_s, policy.initial_s * policy.factor ** min(count - 1, LARGEST_EXPONENT))
    return longest / 2 + jitter * longest / 2


def _comes_back(policy: RestartPolicy, failure: Failure) -> bool:
    if policy.policy is Restart.ON_FAILURE:
        return not _ended_well(failure)
    return policy.policy is Restart.ALWAYS


def _stays_down(policy: RestartPolicy, failure: Failure, count: int) -> Decision:
    reason = f"{failure.reason}; the restart policy is {policy.policy.value}"
    if _ended_well(failure):
        return Decision(Actual.STOPPED, reason, 0)
    return Decision(Actual.FAILED, reason, count)


def _ended_well(failure: Failure) -> bool:
    """Status 0 before it was ever ready is a failure too."""
    return failure.clean and failure.ready_for_s is not None


def _times(count: int) -> str:
    return "1 failure" if count == 1 else f"{count} failures"
