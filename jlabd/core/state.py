"""The state of one instance, and what each pair of (desired, actual) means.

`desired` is what the operator (or `autostart`) asked for; `actual` is what is the case. The machine moves `actual`
towards `desired` and never skips a step: a process tree is always empty before the next incarnation is spawned.

======== =========== ==========================================================================================
desired  actual      meaning, and what ends it
======== =========== ==========================================================================================
running  starting    Spawn was asked for (`pid` is None) or the server runs and has not answered yet.
                     Ends by: an answer (ready), its exit (stopping), `deadline` (stopping).
running  ready       The server answers. Ends by: a probe that fails (unhealthy), its exit (stopping).
running  unhealthy   Some probes in a row failed. Ends by: an answer (ready), one failure too many (stopping).
running  stopping    The incarnation is being ended, by request or because it failed; the next one is spawned when
                     its tree is empty: at once after a request, else as the restart policy says. Or it goes to
                     sleep (`going_idle`): idle follows.
running  backoff     Nothing runs; `deadline` is when the next incarnation is spawned.
running  failed      Nothing runs and trying again without a change is useless, or the policy gave up.
running  idle        Nothing runs, because nobody uses it; a visit or a start request starts it.
stopped  stopping    On the way down; `deadline` is when the whole tree is killed, None once that was asked for.
stopped  stopped     Nothing runs, and nothing should (stopped by request, or the policy does not restart a clean exit).
(other pairs)        Do not occur: a start or stop request leaves them in the same step.
======== =========== ==========================================================================================

Who answers on the instance's socket (`Instance.front`) follows from the state and from what visitors have seen so far:

========= ============================================================================================================
front     when
========= ============================================================================================================
stand-in  Nothing of the instance runs: stopped, failed, idle, and a backoff that is longer than PATIENCE_S.
usher     The instance is on its way (starting, stopping, a short backoff), and visitors have been answered by a
          stand-in before, or have waited for PATIENCE_S. Daemon and server share the socket until the server is ready.
lab       The server alone: ready and unhealthy, and at first while it starts, stops or restarts; requests that
          it cannot take yet wait in the socket's backlog.
========= ============================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Desired(StrEnum):
    """What the operator asked for."""

    RUNNING = "running"
    STOPPED = "stopped"


class Actual(StrEnum):
    """What is the case."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FAILED = "failed"
    IDLE = "idle"


class Front(StrEnum):
    """Who answers on the instance's socket."""

    LAB = "lab"
    USHER = "usher"
    STAND_IN = "stand-in"


AT_REST = frozenset({Actual.STOPPED, Actual.BACKOFF, Actual.FAILED, Actual.IDLE})
"""States in which no process of the instance exists."""

PATIENCE_S = 5.0
"""So long visitors wait in the socket's backlog before the daemon tells them what they are waiting for."""

SERVING = frozenset({Actual.READY, Actual.UNHEALTHY})
"""States in which the server has answered and lives."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an incarnation is being ended although nobody asked for it."""

    reason: str
    clean: bool = False
    """The server ended by itself with status 0."""
    permanent: bool = False
    """Trying again without a change is useless."""
    ready_for_s: float | None = None
    """How long the incarnation had been ready; None if it never was."""


@dataclass(frozen=True, slots=True)
class Instance:
    """Everything the machine knows of one instance. Times are seconds of the monotonic clock."""

    desired: Desired = Desired.STOPPED
    actual: Actual = Actual.STOPPED
    reason: str = "not started yet"
    since: float = 0.0
    """When `actual` began."""
    incarnation: int = 0
    """Number of the current or last process life; 0 before the first."""
    pid: int | None = None
    """The server, while it lives."""
    ready_at: float | None = None
    """When this incarnation first answered."""
    deadline: float | None = None
    """When the present state must be over: readiness, the kill after a stop, the end of a backoff."""
    probe_at: float | None = None
    """When the next probe is due; None while one is under way or none is wanted."""
    stable_at: float | None = None
    """When the failures in a row are forgotten."""
    probe_failures: int = 0
    """Probes in a row that failed since the last answer."""
    failures: int = 0
    """Incarnations in a row that failed."""
    restarts: int = 0
    """Restarts that nobody asked for, since the daemon knows the instance."""
    failure: Failure | None = None
    """While stopping: the failure that the restart policy will judge; None after a request."""
    going_idle: bool = False
    """While stopping: it goes to sleep."""
    ushering: bool = False
    """On its way: visitors know that it is, and are not left waiting without a word."""
    usher_at: float | None = None
    """On its way: when visitors have waited long enough without a word."""
    visited_at: float | None = None
    """On its way: when somebody first wanted to see the incarnation that is not ready yet."""
    start_took_s: float | None = None
    """How long the last start took that came to an answer."""
    active_at: float | None = None
    """While ready: when something was last known to go on in the server (see `core.idleness`)."""
    memory_kills: int = 0
    """Processes of this incarnation that the system killed for want of memory."""
    activity_mark: str | None = None
    """What the last check said; the same mark again means that nothing happened in between."""
    check_at: float | None = None
    """When the next activity check is due; None while one is under way or none is wanted."""
    sleep_at: float | None = None
    """When it goes to sleep unless something happens; None until that is announced."""

    @property
    def front(self) -> Front:
        """Who answers on the instance's socket."""
        if self.rests_openly:
            return Front.STAND_IN
        return Front.USHER if self.ushering else Front.LAB

    @property
    def rests_openly(self) -> bool:
        """Whether nothing runs, and that for so long that visitors are told."""
        if self.actual is Actual.BACKOFF:
            return self.deadline is not None and self.deadline - self.since > PATIENCE_S
        return self.actual in AT_REST

    def next_deadline(self) -> float | None:
        """Return the earliest time at which this instance wants a `TimePassed`."""
        times = (self.deadline, self.probe_at, self.stable_at, self.check_at, self.usher_at)
        return min((t for t in times if t is not None), default=None)
