"""What a SIGTERM means: the end of the labs too, or only of this daemon because the service manager starts a new one.

systemd sends the same signal for `stop`, for `restart` and at shutdown. What tells them apart is the job that it is
carrying out for our unit. Nobody else sends a SIGTERM in order to start us again: in a terminal, under Supervisor, or
sent by hand it ends the labs, as does a `systemctl stop` or a shutdown.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from jlabd.processes.command import run

log = structlog.get_logger()

TIMEOUT_S = 5.0
"""For systemd's answer, which takes some 10 ms."""

STARTS_US_AGAIN = frozenset({"restart", "start"})
"""Types of jobs after whose end a jlabd runs: `try-restart` and the like are carried out as `restart`; `start` is the
job when systemd ends a start that took too long, and tries again."""


async def labs_are_to_stay() -> bool:
    """Return whether systemd ends this process in order to start a new one.

    If systemd should not answer, the labs stay: after a `stop` they can still be ended, by another start and stop; what
    a `restart` had ended would be lost; and a machine that shuts down ends them anyway.
    """
    if os.environ.get("SYSTEMD_EXEC_PID") != str(os.getpid()):
        return False
    try:
        found = own_service(Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError as error:  # for want of descriptors or memory
        log.warning("Which unit this is cannot be found out: the labs are left running.", error=str(error))
        return True
    if found is None:
        return False
    manager, unit = found
    result = await run(["systemctl", manager, "list-jobs", "--full", "--no-legend", "--no-pager"], TIMEOUT_S)
    if result.status != 0:
        log.warning(
            "systemd does not say whether this is a stop or a restart: the labs are left running. To end them, start "
            "jlabd again and stop it.",
            status=result.status,
            output=result.output,
        )
        return True
    return job_type(result.output, unit) in STARTS_US_AGAIN


def own_service(cgroups: str) -> tuple[str, str] | None:
    """Return systemctl's option for the manager, and the unit, of the innermost service in a /proc/PID/cgroup file.

    cgroup v2 knows it, and on machines without it systemd's own v1 hierarchy does.
    """
    lines = [line.split(":", 2)[1:] for line in cgroups.splitlines()]
    for path in [path for wanted in ("", "name=systemd") for controllers, path in lines if controllers == wanted]:
        for part in reversed(path.split("/")):
            if part.endswith(".service"):
                return "--user" if "/user@" in path.removesuffix(f"/{part}") else "--system", part
    return None


def job_type(listing: str, unit: str) -> str | None:
    """Return the type of the job for `unit` in the output of `systemctl list-jobs`: lines of id, unit, type, state."""
    rows = (line.split() for line in listing.splitlines())
    return next((row[2] for row in rows if len(row) >= 3 and row[1] == unit), None)
