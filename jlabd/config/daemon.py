"""From `[daemon]` and `[nginx]` to their specs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

from jlabd.config import words
from jlabd.config.listen import bytes_too_long, excess, parsed_nginx_listen
from jlabd.config.model import DaemonTable, NginxTable
from jlabd.config.problems import Key, shown
from jlabd.config.sources import Raw
from jlabd.config.together import Ports
from jlabd.config.validate import Finding, validate
from jlabd.core.hosts import speaks_tls
from jlabd.spec import DaemonSpec, NginxSpec, TcpListen, UnixListen

_WITH_TLS = ("80", "443 ssl")
_NOT_OURS = {"/", "/etc", "/etc/nginx", "/etc/nginx/conf.d", "/etc/nginx/sites-enabled", "/etc/nginx/default.d"}


def build_daemon(raw: Raw) -> tuple[DaemonSpec, str, list[Finding]]:
    """Return the daemon's spec, the pattern of files to include, and what is wrong, with keys from the top on."""
    table, findings = validate(DaemonTable, raw)
    spec = DaemonSpec(**table.model_dump(exclude={"include", "status_listen"}), status_listen=table.status_listen)
    if spec.status_listen == UnixListen(spec.control_socket):
        findings.append((("status_listen",), "is the control socket's own path, write another one"))
    if extra := max(excess(spec.control_socket), excess(f"{spec.sockets_dir}/x.sock")):
        findings.append((("runtime_dir",), f"is {bytes_too_long(extra)} for unix sockets in it, write a shorter path"))
        # Reported once, here; else each instance would say it again.
        spec = replace(spec, runtime_dir=DaemonSpec().runtime_dir)
    return spec, table.include, _below(("daemon",), findings)


def build_nginx(raw: Raw) -> tuple[NginxSpec, list[Finding]]:
    """Return nginx's spec and what is wrong, with keys from the top on."""
    table, findings = validate(NginxTable, raw)
    if table.config_dir in _NOT_OURS:
        findings.append((("config_dir",), f'{table.config_dir!r} is not for jlabd alone, write "/etc/nginx/jlabd.d"'))
    if not {key[0] for key, _ in findings} & {"tls_certificate", "tls_certificate_key", "listen"}:
        findings += _about_tls(table)
    values: Raw = {key: tuple(value) if isinstance(value, list) else value for key, value in table}
    values["listen"] = tuple(table.listen or (_WITH_TLS if table.tls_certificate else NginxSpec().listen))
    spec = NginxSpec(**values | {"server_names": tuple(dict.fromkeys(table.server_names)) or own_host_names()})
    return spec, _below(("nginx",), findings)


def _about_tls(table: NginxTable) -> Iterator[Finding]:
    """Yield what is wrong with the shared certificate and the addresses together."""
    yield from half_a_certificate(table.tls_certificate, table.tls_certificate_key)
    if table.tls_certificate and table.listen and not any(map(speaks_tls, table.listen)):
        yield ("listen",), f"has no address for the certificate, add one with ssl, like {shown(_WITH_TLS[1])}"


def half_a_certificate(certificate: str, key: str) -> Iterator[Finding]:
    """Yield a finding if one of the two is missing."""
    if certificate and not key:
        yield ("tls_certificate",), "is of no use without its key, write the path of that as tls_certificate_key"
    if key and not certificate:
        yield ("tls_certificate_key",), "is of no use without its certificate, write tls_certificate too"


def own_host_names() -> tuple[str, ...]:
    """Return the names by which this machine is reached, without asking any name server."""
    name = socket.gethostname()
    return tuple(dict.fromkeys([*_valid(name), *_valid(name.partition(".")[0]), "localhost", "127.0.0.1", "[::1]"]))


def _valid(name: str) -> Iterator[str]:
    try:
        yield words.host_name(name)
    except ValueError:
        return


def _below(table: Key, findings: list[Finding]) -> list[Finding]:
    return [((*table, *key), message) for key, message in findings]


def between(daemon: DaemonSpec, nginx: NginxSpec, ports: Ports) -> Iterator[Finding]:
    """Yield what is wrong with daemon and nginx together, and take their ports."""
    if nginx.config_dir in {daemon.runtime_dir, daemon.state_dir, daemon.log_dir}:
        yield ("nginx", "config_dir"), f"{nginx.config_dir!r} is a folder of the daemon, write one for nginx alone"
    seen: set[TcpListen] = set()
    for n, address in enumerate(map(parsed_nginx_listen, nginx.listen if nginx.enabled else ())):
        if address in seen:
            yield ("nginx", "listen", n), f"{nginx.listen[n]!r} is there twice, keep one of them"
        seen.add(address)
        ports.take(address, "nginx (nginx.listen)")
    if isinstance(daemon.status_listen, TcpListen):
        holder = ports.take(daemon.status_listen, "the status endpoint (daemon.status_listen)")
        if holder:
            port = daemon.status_listen.port
            yield ("daemon", "status_listen"), f'port {port} is taken by {holder}; write another one, or ""'
