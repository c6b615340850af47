"""Lives of one instance, played to a certain point: where tests of the machine begin."""

from __future__ import annotations

from dataclasses import replace

from jlabd.core.events import (
    ActivityChecked,
    Added,
    Event,
    Exited,
    ProbeFailed,
    ProbeSucceeded,
    RestartRequested,
    Spawned,
    SpawnFailed,
    StopRequested,
    TimePassed,
    TreeEmptied,
)
from jlabd.core.machine import step
from jlabd.core.state import Instance
from jlabd.spec import IdleSpec, InstanceSpec, ProbeSpec, RestartPolicy, StopSpec, UnixListen

SPEC = InstanceSpec(
    "alice",
    UnixListen("/run/jlabd/sockets/alice.sock"),
    stop=StopSpec(timeout_s=15),
    probe=ProbeSpec(ready_timeout_s=60, interval_s=30, timeout_s=5, failures=3),
    restart=RestartPolicy(initial_s=1, factor=2, max_s=60, stable_after_s=120),
)

SLEEPY = replace(SPEC, probe=replace(SPEC.probe, interval_s=0), idle=IdleSpec(stop_after_s=1000.0))
"""Sleeps after 1000 s, is checked every 60 s, and announces sleep 100 s before."""


def after(*timed: tuple[float, Event], spec: InstanceSpec = SPEC) -> tuple[Instance, tuple[object, ...]]:
    """Play (now, event) pairs on a new instance; return it with the actions of the last one."""
    instance, actions = Instance(), ()
    for now, event in timed:
        instance, actions = step(spec, instance, event, now)
    return instance, actions


STARTING = ((0.0, Added(start=True)),)
SPAWNED = (*STARTING, (0.1, Spawned(1, pid=77)))
READY = (*SPAWNED, (3.0, ProbeSucceeded(1)))
UNHEALTHY = (*READY, (33.0, ProbeFailed(1, "no answer")))
STOPPING = (*READY, (10.0, StopRequested("by root")))
RESTARTING = (*READY, (10.0, RestartRequested("by root")))
CRASHED = (*READY, (10.0, Exited(1, "was killed by signal 9 (SIGKILL)")))
BACKOFF = (*CRASHED, (10.5, TreeEmptied(1, jitter=0.5)))
STOPPED = (*STOPPING, (11.0, Exited(1, "exited with status 0", clean=True)), (11.5, TreeEmptied(1)))
FAILED = (*STARTING, (0.1, SpawnFailed(1, "no user 'alice'", permanent=True)))

# Lives of SLEEPY

SEEN = (*READY, (3.0, TimePassed()), (3.0, ActivityChecked(1, "m")))
"""Checked once, when it was ready at 3: whatever happened is over by then."""
SLEEP_ANNOUNCED = (*SEEN, (903.0, TimePassed()), (903.0, ActivityChecked(1, "m")))
GOING = (*SLEEP_ANNOUNCED, (1003.0, TimePassed()), (1003.0, ActivityChecked(1, "m")))
"""On its way to sleep."""
ASLEEP = (*GOING, (1004.0, Exited(1, "exited with status 0", clean=True)), (1004.1, TreeEmptied(1)))
