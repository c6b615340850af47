"""Looks whether SELinux lets jlabd, its labs and nginx do what they are for."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from jlabd.doctor.denials import NGINX, OURS, Denial, ours, parse
from jlabd.doctor.findings import Finding, advice, good, unknown, wrong
from jlabd.spec import Configuration, TcpListen

SUBJECT = "SELinux"
TIMEOUT_S = 30.0
STATE = Path("/sys/fs/selinux")
AUDIT_LOG = Path("/var/log/audit/audit.log")
_TAIL = 4 * 1024 * 1024
"""Bytes of the audit log that are read, from its end, where there is no ausearch."""
_MOST = 8
"""Denials that are told; the first ones say enough."""


def examine(configuration: Configuration, daemon_pid: int | None) -> Iterator[Finding]:
    """Look at the system's state, the labels, the booleans, and what was refused today."""
    enforcing = _flag("enforce")
    if enforcing is None:
        yield good(SUBJECT, "not in use on this machine")
        return
    yield good(SUBJECT, "enforcing" if enforcing else "permissive: what it would refuse is only noted")
    yield from about_domain(_domain(daemon_pid), daemon_pid)
    yield from about_labels(_mislabelled(_places(configuration)))
    yield from about_booleans(configuration, can_connect=_flag("booleans/httpd_can_network_connect"))
    yield from _about_denials(configuration)


def about_domain(domain: str, pid: int | None) -> Iterator[Finding]:
    """Say whether the daemon runs where the policy module has it."""
    if pid is None:
        return
    if domain == OURS:
        yield good(SUBJECT, f"jlabd runs in its own domain, {OURS}")
    else:
        yield wrong(
            SUBJECT,
            f"jlabd runs as {domain or 'an unknown domain'}, not as {OURS}: nginx may not connect to its labs",
            "dnf install jlabd-selinux; restorecon -v /usr/bin/jlabd; then systemctl stop jlabd; systemctl start jlabd",
        )


def about_labels(mislabelled: Sequence[str]) -> Iterator[Finding]:
    """Say which files have another label than the policy wants."""
    if mislabelled:
        complaints = "; ".join(mislabelled)
        paths = " ".join(complaint.split(" has context ")[0] for complaint in mislabelled)
        yield wrong(SUBJECT, f"wrong labels: {complaints}", f"restorecon -Rv {paths}")


def about_booleans(configuration: Configuration, *, can_connect: bool | None) -> Iterator[Finding]:
    """Say whether nginx may connect to instances that listen on a port."""
    named = [name for name, spec in configuration.instances.items() if isinstance(spec.listen, TcpListen)]
    if configuration.nginx.enabled and named and can_connect is False:
        yield wrong(
            SUBJECT,
            f"nginx may not connect to ports, and {', '.join(sorted(named)[:5])} listen on one",
            'setsebool -P httpd_can_network_connect on; or set listen = "unix"',
        )


def judge(denials: Iterable[Denial], ports: frozenset[str]) -> Iterator[Finding]:
    """Say what was refused that concerns us. Pure."""
    told = list(ours(denials, ports))
    for denial, fix in told[:_MOST]:
        if denial.enforced:
            yield wrong(SUBJECT, f"refused {denial.what}", fix)
        else:
            yield advice(SUBJECT, f"would refuse {denial.what}, were it enforcing", fix)
    if len(told) > _MOST:
        yield advice(SUBJECT, f"and {len(told) - _MOST} more", "ausearch -m avc -ts today")
    if not told:
        yield good(SUBJECT, f"refused nothing today that concerns {OURS} or {NGINX} with the labs")


def _about_denials(configuration: Configuration) -> Iterator[Finding]:
    text = _audit()
    if text is None:
        yield unknown(SUBJECT, "what it refused can only be read by root", "run sudo jlabctl doctor")
    else:
        yield from judge(parse(text), ports_of(configuration))


def ports_of(configuration: Configuration) -> frozenset[str]:
    """Return the numbers of the ports that nginx listens on or connects to, as text."""
    labs = {str(spec.listen.port) for spec in configuration.instances.values() if isinstance(spec.listen, TcpListen)}
    return frozenset(labs | {word.split()[0].rpartition(":")[2] for word in configuration.nginx.listen})


def _places(configuration: Configuration) -> list[str]:
    daemon = configuration.daemon
    found = ["/usr/bin/jlabd", "/etc/jlabd.toml", "/etc/jlabd.d", configuration.nginx.config_dir]
    return [*found, daemon.runtime_dir, f"{daemon.runtime_dir}/sockets", daemon.state_dir, daemon.log_dir]


def _mislabelled(paths: Sequence[str]) -> list[str]:
    """Return complaints like "PATH has context A, should be B"."""
    there = [path for path in paths if Path(path).exists()]
    if shutil.which("matchpathcon") is None or not there:
        return []
    lines = _output(["matchpathcon", "-V", *there]).splitlines()
    return [line.strip() for line in lines if " has context " in line]


def _audit() -> str | None:
    """Return today's lines about denials, None if they cannot be read."""
    if shutil.which("ausearch") is not None and AUDIT_LOG.exists():
        return _output(["ausearch", "-m", "AVC,USER_AVC", "-ts", "today", "--raw"])
    try:
        with AUDIT_LOG.open("rb") as log:
            log.seek(max(0, AUDIT_LOG.stat().st_size - _TAIL))
            return log.read().decode(errors="replace")
    except FileNotFoundError:  # no auditd: the kernel's log has them
        return _output(["journalctl", "--no-pager", "--quiet", "--boot", "--output=cat", "_TRANSPORT=audit", "+", "-k"])
    except OSError:
        return None


def _output(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


def _flag(name: str) -> bool | None:
    """Return a flag of the kernel's SELinux, None if there is none."""
    try:
        return (STATE / name).read_text(encoding="ascii").strip().startswith("1")
    except OSError:
        return None


def _domain(pid: int | None) -> str:
    try:
        context = Path(f"/proc/{pid}/attr/current").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return (context.split(":") + [""] * 3)[2].strip("\0\n")
