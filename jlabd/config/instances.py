"""From one draft to its spec, and what is wrong with it by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jlabd.config.daemon import half_a_certificate
from jlabd.config.drafts import Draft
from jlabd.config.listen import bytes_too_long, excess
from jlabd.config.model import InstanceTable
from jlabd.config.problems import Problem
from jlabd.config.validate import Finding, validate
from jlabd.core.hosts import speaks_tls
from jlabd.core.launch import PRIVATE_FOLDERS
from jlabd.spec import (
    DaemonSpec,
    IdleSpec,
    InstanceSpec,
    KernelSpec,
    Limits,
    Listen,
    LogSpec,
    NginxSpec,
    ProbeSpec,
    RestartPolicy,
    RouteSpec,
    StopSpec,
    UnixListen,
)

_KERNEL_SOCKET = f"000000/rt/kernel-{'0' * 36}-ipc-5"
"""What follows `labs/NAME.` in the longest path of a kernel's socket."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the daemon is."""

    uid: int
    name: str


def build(draft: Draft, daemon: DaemonSpec, nginx: NginxSpec, who: Identity) -> tuple[InstanceSpec, list[Problem]]:
    """Return the spec of `draft` without what is wrong with it, and what is."""
    table, findings = validate(InstanceTable, draft.values)
    wrong = {key[0] for key, _ in findings if key}
    if not wrong & {"user", "allow_root"}:
        findings += _about_user(table, who)
    findings += _contradictions(table)
    findings += _about_paths(draft.name, table, daemon)
    findings += _hidden(table, daemon)
    findings += [(("nginx", *key), message) for key, message in _about_route(table, nginx)]
    spec = _spec(draft.name, table, daemon, nginx)
    return spec, [draft.problem(key, message) for key, message in findings]


def _about_user(table: InstanceTable, who: Identity) -> Iterator[Finding]:
    if who.uid != 0:
        if table.user not in {None, who.name}:
            yield ("user",), f"the daemon runs as {who.name} and cannot become {table.user!r}; leave user out"
    elif table.user is None:
        yield ("user",), 'is missing; the daemon runs as root, so write the account to run as, like user = "alice"'
    elif table.user == "root" and not table.allow_root:
        yield ("user",), "'root' could do anything to this machine; write another account, or allow_root = true too"


def _contradictions(table: InstanceTable) -> Iterator[Finding]:
    if table.password_hash and table.password_hash_file:
        yield ("password_hash_file",), "cannot be used together with password_hash, keep one of them"
    if table.command and table.config_files:
        yield ("config_files",), "are for JupyterLab, not for the program of command; leave one of them out"
    for key in ("stop_after", "cull_kernels_after"):
        if table.command and getattr(table.idle, f"{key}_s"):
            yield ("idle", key), "needs JupyterLab, which says what goes on in it; write 0 for the program of command"
    most, high = table.limits.memory_max, table.limits.memory_high
    if most is not None and high is not None and high >= most:
        yield ("limits", "memory_high"), "is not below memory_max and would never matter, write less or leave it out"


def _about_paths(name: str, table: InstanceTable, daemon: DaemonSpec) -> Iterator[Finding]:
    """Yield a finding if the path of a unix socket of the instance would be too long."""
    extra = 0 if table.listen else excess(_socket(daemon, name))
    if table.kernel.transport == "ipc" and not table.command:
        extra = max(extra, excess(f"{daemon.runtime_dir}/labs/{name}.{_KERNEL_SOCKET}"))
    if extra:
        yield (
            (),
            (
                f"the paths of its unix sockets would be {bytes_too_long(extra)}; "
                "use a daemon.runtime_dir or a name that much shorter"
            ),
        )


def _hidden(table: InstanceTable, daemon: DaemonSpec) -> Iterator[Finding]:
    """Yield a finding for each place that the instance needs and would not see below a /tmp of its own."""
    venv = "" if table.command else table.venv
    for what, path in (("root_dir", table.root_dir), ("venv", venv), ("daemon.runtime_dir", daemon.runtime_dir)):
        hiding = next((folder for folder in PRIVATE_FOLDERS if f"{path}/".startswith(f"{folder}/")), None)
        if table.private_tmp and hiding is not None:
            yield ("private_tmp",), f"would hide {what} {path}; move that out of {hiding}, or write false"


def _about_route(table: InstanceTable, nginx: NginxSpec) -> Iterator[Finding]:
    """Yield what is wrong with `nginx` of an instance, with keys below it."""
    route = table.route
    yield from half_a_certificate(route.tls_certificate, route.tls_certificate_key)
    speaking = {speaks_tls(address) for address in nginx.listen} if nginx.enabled else {True, False}
    if route.tls_certificate and not table.server_name:
        yield (
            ("tls_certificate",),
            "is for an instance with a server_name of its own; for the shared host write it into [nginx]",
        )
    elif route.tls_certificate and True not in speaking:
        yield ("tls_certificate",), 'needs an address with ssl in nginx.listen, like listen = ["80", "443 ssl"]'
    elif not route.tls_certificate and not nginx.tls_certificate and False not in speaking:
        yield (
            ("tls_certificate",),
            "is missing: every address in nginx.listen says ssl; write one here or in [nginx]",
        )


def _socket(daemon: DaemonSpec, name: str) -> str:
    return f"{daemon.sockets_dir}/{name}.sock"


def _hostnames(table: InstanceTable, nginx: NginxSpec) -> tuple[str, ...]:
    """Return the names under which an instance is reached; without nginx the machine's own lead there too."""
    shared = () if table.server_name and nginx.enabled else nginx.server_names
    return (table.server_name, *shared) if table.server_name else shared


def _spec(name: str, table: InstanceTable, daemon: DaemonSpec, nginx: NginxSpec) -> InstanceSpec:
    listen: Listen = table.listen or UnixListen(_socket(daemon, name))
    return InstanceSpec(
        name=name,
        listen=listen,
        user=table.user,
        allow_root=table.allow_root,
        root_dir=table.root_dir,
        venv=table.venv,
        command=tuple(table.command),
        args=tuple(table.args),
        config_files=tuple(table.config_files),
        password_hash=table.password_hash,
        password_hash_file=table.password_hash_file,
        token_file=table.token_file,
        server_name=table.server_name,
        base_url=table.base_url or ("/" if table.server_name else f"/{name}/"),
        hostnames=_hostnames(table, nginx),
        autostart=table.autostart,
        on_demand=table.on_demand,
        env=table.env,
        env_file=table.env_file,
        umask=table.umask,
        warm=table.warm,
        restart=RestartPolicy(**table.restart.model_dump()),
        stop=StopSpec(**table.stop.model_dump()),
        probe=ProbeSpec(**table.ready.model_dump(), **table.health.model_dump()),
        idle=IdleSpec(**table.idle.model_dump()),
        limits=Limits(**table.limits.model_dump()),
        open_files=table.limits.open_files,
        no_new_privileges=table.no_new_privileges,
        private_tmp=table.private_tmp,
        log=LogSpec(**table.log.model_dump()),
        kernel=KernelSpec(**table.kernel.model_dump()),
        route=RouteSpec(**table.route.model_dump()),
    )
