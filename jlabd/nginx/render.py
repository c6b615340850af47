"""From the configuration to nginx's own words: a pure function, with templates that lie in this package.

A generation is `main.conf` (the maps, the server that rejects unknown names, the shared host), `locations/NAME.conf`
for each instance with a path on the shared host, `hosts/NAME.conf` for each that has a host of its own, and
`extra/NAME.conf` with the administrator's own directives for one; and `verify.conf`, by which nginx says which
generation it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jlabd.core.hosts import Certificate, certificate_of, certificates, first_port, shared_certificate
from jlabd.nginx import allowed, marks
from jlabd.nginx.allowed import RenderError
from jlabd.nginx.filling import fill, fill_own
from jlabd.nginx.surroundings import Surroundings
from jlabd.spec import Configuration, InstanceSpec, NginxSpec

__all__ = ["RenderError", "entry", "render", "stamped"]


@dataclass(frozen=True, slots=True)
class _Tls:
    """What a server needs to speak TLS, every value checked."""

    certificate: str
    key: str
    fingerprint: str
    """SHA-256 of the certificate's file; empty if it is not known."""


@dataclass(frozen=True, slots=True)
class _Host:
    """A host: its names, and where it answers how."""

    names: list[str]
    tls: _Tls | None
    plain: list[str]
    """Addresses without TLS on which it serves."""
    encrypted: list[str]
    redirect: list[str]
    """Addresses without TLS on which it only says that it has moved."""
    access_log: str


@dataclass(frozen=True, slots=True)
class _Route:
    """What the templates need to know of one instance, every value checked."""

    name: str
    server_name: str
    base_url: str
    upstream: str
    client_max_body_size: int
    read_timeout_ms: int
    extra: str
    template: str
    host: _Host | None
    """The host of its own; None on the shared one."""


def render(configuration: Configuration, surroundings: Surroundings | None = None) -> Mapping[str, str]:
    """Return the files of a generation, relative file name → text; none when nothing is to be published.

    Raises RenderError.
    """
    nginx = configuration.nginx
    around = surroundings or Surroundings()
    specs = [spec for spec in configuration.instances.values() if spec.server_name or nginx.server_names]
    routes = [_route(spec, nginx, around) for spec in specs]
    if not routes:
        return {}
    shared = [route for route in routes if not route.server_name]
    names = list(dict.fromkeys(allowed.host("nginx.server_name", name) for name in nginx.server_names))
    _refuse_clashes(routes, shared, names)
    host = _host("The shared host", names, shared_certificate(nginx), nginx, around) if shared else None
    values = _common(nginx, around)
    files = {"main.conf": _main(values, host, routes)}
    for route in routes:
        files |= _files_of(route, values, around)
    return files


def entry(nginx: NginxSpec) -> str:
    """Return the text of jlabd.conf, the one file that nginx.conf includes. Raises RenderError."""
    return fill("entry.conf.j2", {"config_dir": allowed.path("nginx.config_dir", nginx.config_dir)})


def stamped(configuration: Configuration, files: Mapping[str, str], number: int) -> dict[str, str]:
    """Return the files of the generation `number`, completed by what lets nginx say that it is in force.

    Without any file there is nothing to be completed. Raises RenderError.
    """
    if not files:
        return {}
    nginx = configuration.nginx
    host = _asked_by_us(configuration)
    text = fill("verify.conf.j2", _common(nginx, Surroundings()), host=host, mark=marks.mark(files, number))
    return {**files, marks.FILE: text}


def _asked_by_us(configuration: Configuration) -> _Host:
    """Return the host at which jlabd asks nginx for its generation: without TLS, if there is any such address."""
    nginx = configuration.nginx
    plain, encrypted = allowed.listens("nginx.listen", nginx.listen)
    pair = next(iter(certificates(configuration)), None) if not plain else None
    tls = _tls("The server for jlabd itself", pair, Surroundings()) if pair else None
    names = [marks.host(nginx.config_dir)]
    return _Host(names=names, tls=tls, plain=plain, encrypted=[] if plain else encrypted, redirect=[], access_log="")


def _main(values: Mapping[str, object], shared: _Host | None, routes: list[_Route]) -> str:
    hosts = [host for host in (shared, *(route.host for route in routes)) if host is not None]
    more = {
        "host": shared,
        "root_taken": any(route.base_url == "/" for route in routes if not route.server_name),
        # To an address one comes without a name in the handshake, and so with the certificate of the first server.
        "nameless": next((host.tls for host in hosts if host.tls and any(map(allowed.is_address, host.names))), None),
    }
    return fill("main.conf.j2", values, **more)


def _files_of(route: _Route, values: Mapping[str, object], around: Surroundings) -> dict[str, str]:
    """Return the files of one instance. Raises RenderError."""
    folder, template = ("hosts", "host.conf.j2") if route.server_name else ("locations", "location.conf.j2")
    fields = {key: getattr(route, key) for key in _Route.__slots__}
    if route.template:
        text = fill_own(route.template, around.templates.get(route.template, ""), values, **fields)
    else:
        text = fill(template, values, **fields)
    extra = {f"extra/{route.name}.conf": route.extra} if route.extra else {}
    return {f"{folder}/{route.name}.conf": text} | extra


def _common(nginx: NginxSpec, around: Surroundings) -> dict[str, object]:
    """Return the values of [nginx] that all templates share. Raises RenderError."""
    plain, encrypted = allowed.listens("nginx.listen", nginx.listen)
    port = first_port(nginx.listen, tls=True)
    return {
        "config_dir": allowed.path("nginx.config_dir", nginx.config_dir),
        "all_plain": plain,
        "all_encrypted": encrypted,
        "https_port": "" if port in {None, "443"} else f":{port}",
        "http2": ("directive" if around.http2_directive else "listen") if nginx.http2 else "",
        "hsts_s": allowed.seconds("nginx.hsts", nginx.hsts_s),
        "acme_root": nginx.acme_root and allowed.path("nginx.acme_root", nginx.acme_root),
        "logs": bool(nginx.access_log_dir),
    }


def _route(spec: InstanceSpec, nginx: NginxSpec, around: Surroundings) -> _Route:
    """Check everything that nginx is told about one instance. Raises RenderError."""
    who = f"Instance {allowed.name(spec.name)}"
    server_name = spec.server_name and allowed.host(f"{who}: server_name", spec.server_name)
    return _Route(
        name=spec.name,
        server_name=server_name,
        base_url=allowed.base_url(f"{who}: base_url", spec.base_url),
        upstream=allowed.upstream(f"{who}: listen", spec.listen),
        client_max_body_size=allowed.body_size(f"{who}: nginx.client_max_body_size", spec.route.client_max_body_size),
        read_timeout_ms=allowed.timeout_ms(f"{who}: nginx.read_timeout", spec.route.read_timeout_s),
        extra=allowed.directives(f"{who}: nginx.extra", spec.route.extra),
        template=spec.route.template,
        host=_host(who, [server_name], certificate_of(spec, nginx), nginx, around) if server_name else None,
    )


def _host(who: str, names: list[str], certificate: Certificate | None, nginx: NginxSpec, around: Surroundings) -> _Host:
    """Say where a host answers. Raises RenderError."""
    plain, encrypted = allowed.listens("nginx.listen", nginx.listen)
    tls = _tls(who, certificate, around) if certificate else None
    if tls is not None and not encrypted:
        raise RenderError(f'{who} has a certificate, but no address in nginx.listen says ssl, like "443 ssl".')
    if tls is None and not plain:
        raise RenderError(f"{who} has no certificate, but every address in nginx.listen says ssl.")
    moved = tls is not None and nginx.https_redirect
    folder = nginx.access_log_dir and allowed.path("nginx.access_log_dir", nginx.access_log_dir)
    return _Host(
        names=names,
        tls=tls,
        plain=[] if moved else plain,
        encrypted=encrypted if tls else [],
        redirect=plain if moved else [],
        access_log=folder and f"{folder}/{allowed.log_name(names[0])}",
    )


def _tls(who: str, certificate: Certificate, around: Surroundings) -> _Tls:
    if not certificate.key_path:
        raise RenderError(f"{who}: tls_certificate and tls_certificate_key are needed together.")
    return _Tls(
        certificate=allowed.path(f"{who}: tls_certificate", certificate.path),
        key=allowed.path(f"{who}: tls_certificate_key", certificate.key_path),
        fingerprint=around.fingerprints.get(certificate.path, ""),
    )


def _refuse_clashes(routes: list[_Route], shared: list[_Route], server_names: list[str]) -> None:
    """Refuse two in one place: nginx would only warn, and serve the first alone. Raises RenderError."""
    for name in _twice([*server_names, *(route.server_name for route in routes if route.server_name)]):
        users = [f"instance {route.name}" for route in routes if route.server_name == name]
        users += ["the shared host"] if name in server_names else []
        raise RenderError(f"server_name {name} is used twice: by {' and '.join(users)}.")
    for base_url in _twice(route.base_url for route in shared):
        users = [f"instance {route.name}" for route in shared if route.base_url == base_url]
        raise RenderError(f"base_url {base_url} is used twice: by {' and '.join(users)}.")


def _twice(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]
