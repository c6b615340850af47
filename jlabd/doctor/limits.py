"""Looks whether the limits of the configuration can be enforced where the daemon keeps its labs."""

from __future__ import annotations

from collections.abc import Iterator

from jlabd.doctor.findings import Finding, good, unknown, wrong
from jlabd.processes.enforcement import daemon_lacks, machine_lacks
from jlabd.spec import Configuration, Limits

SUBJECT = "limits"


def examine(configuration: Configuration, pid: int | None) -> Iterator[Finding]:
    """Look at this machine and at the cgroups of the daemon `pid`, which is None if it does not run."""
    limits = {name: spec.limits for name, spec in configuration.instances.items() if spec.limits != Limits()}
    if not limits:
        return
    lacks = machine_lacks(limits)
    if pid is not None:
        try:
            lacks += daemon_lacks(limits, configuration.daemon.runtime_dir, pid)
        except OSError as error:
            yield unknown(SUBJECT, f"the cgroup of jlabd (pid {pid}) cannot be looked at: {error}")
            return
    for lack in lacks:
        yield wrong(SUBJECT, lack.sentence, lack.fix)
    if pid is None:
        yield unknown(SUBJECT, "whether they are enforced is seen only while jlabd runs", "systemctl start jlabd")
    elif not lacks:
        yield good(SUBJECT, "are enforced by the kernel, in the labs' cgroups")
