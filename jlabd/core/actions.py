"""What is to be done: actions in the imperative, the only thing the machine asks of the world."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the server; answered by Spawned or SpawnFailed, later by Exited."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class SignalServer:
    """Send `signal` to the server process alone."""

    incarnation: int
    signal: int


@dataclass(frozen=True, slots=True)
class KillTree:
    """Kill every process of the incarnation until none is left; answered by TreeEmptied. Asking twice is harmless."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the server for a real answer; answered by ProbeSucceeded or ProbeFailed within `timeout_s`."""

    incarnation: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class CheckActivity:
    """Ask the server what goes on in it; always answered by ActivityChecked."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class StandIn:
    """Nothing of the instance runs: answer on its socket and say why."""


@dataclass(frozen=True, slots=True)
class Usher:
    """The instance is on its way: answer people on its socket, and keep other requests until it is ready."""


@dataclass(frozen=True, slots=True)
class StepAside:
    """The instance answers for itself: leave its socket alone, and pass on what was kept."""


Action = Spawn | SignalServer | KillTree | Probe | CheckActivity | StandIn | Usher | StepAside
