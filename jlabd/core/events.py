"""What happened: events in the past tense, the only thing that changes an instance.

Process and probe events carry the incarnation that they speak of; the machine drops those of an earlier one. Chance
enters as data: events that may lead to a backoff carry `jitter`, a number in [0, 1) drawn by the driver.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Added:
    """The instance entered the daemon's table. `start`: it is to run from now on."""

    start: bool


@dataclass(frozen=True, slots=True)
class Recovered:
    """The instance entered the table as an earlier daemon left it, and the world was looked at."""

    pid: int | None
    """Its server, if that lives."""
    tree_empty: bool
    """No process of it lives."""
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class StartRequested:
    """Somebody wants the instance to run."""

    reason: str = "start requested"


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody wants the instance to be down; a second one while it is stopping means at once."""

    reason: str = "stop requested"


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """Somebody wants a new incarnation."""

    reason: str = "restart requested"


@dataclass(frozen=True, slots=True)
class Visited:
    """A person opened the instance's address while the daemon answers there."""


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The instance's spec is another one, and its server stays."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """The server process exists and runs its program."""

    incarnation: int
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """No server process came to be. `permanent`: trying again without a change is useless."""

    incarnation: int
    reason: str
    permanent: bool
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Exited:
    """The server process ended. `reason` says how, for people; `clean` is exit status 0."""

    incarnation: int
    reason: str
    clean: bool = False
    permanent: bool = False
    """The program itself said that trying again is useless (EX_CONFIG and a sentence)."""


@dataclass(frozen=True, slots=True)
class TreeEmptied:
    """No process of the incarnation is left."""

    incarnation: int
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class ProbeSucceeded:
    """The server gave a real answer."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """The server gave no answer, or a wrong one."""

    incarnation: int
    reason: str


@dataclass(frozen=True, slots=True)
class ActivityChecked:
    """The server was asked what goes on in it.

    `mark` is None if something does (somebody is connected, a kernel computes), and if it cannot be known. Otherwise it
    changes whenever something happens.
    """

    incarnation: int
    mark: str | None


@dataclass(frozen=True, slots=True)
class MemoryRanOut:
    """The system killed so many processes of the instance for want of memory; `cause` follows “was” or “were”.

    If the server is among them, Exited follows.
    """

    incarnation: int
    processes: int
    cause: str


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A time that the instance waited for has come."""


Request = Added | Recovered | StartRequested | StopRequested | RestartRequested | Visited | Reconfigured | TimePassed
Report = Spawned | SpawnFailed | Exited | TreeEmptied | ProbeSucceeded | ProbeFailed | ActivityChecked | MemoryRanOut
"""Events of one incarnation."""
Event = Request | Report
