"""From the configuration to nginx's own words: a pure function, with templates that lie in this package.

A generation is `main.conf` (the maps, the server that rejects unknown names, the shared host), `locations/NAME.conf`
for each instance with a path on the shared host, `hosts/NAME.conf` for each that has a host of its own, and
`verify.conf`, by which nginx says which generation it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from jlabd.nginx import allowed, marks
from jlabd.nginx.allowed import RenderError
from jlabd.spec import Configuration, InstanceSpec, NginxSpec

__all__ = ["RenderError", "entry", "render", "stamped"]


@dataclass(frozen=True, slots=True)
class _Route:
    """What the templates need to know of one instance, every value checked."""

    name: str
    server_name: str
    base_url: str
    upstream: str
    client_max_body_size: int
    read_timeout_ms: int


def render(configuration: Configuration) -> Mapping[str, str]:
    """Return the files of a generation, relative file name → text; none when nothing is to be published.

    Raises RenderError.
    """
    nginx = configuration.nginx
    routes = [_route(spec) for spec in configuration.instances.values() if spec.server_name or nginx.server_names]
    if not routes:
        return {}
    shared = [route for route in routes if not route.server_name]
    server_names = list(dict.fromkeys(allowed.host("nginx.server_name", name) for name in nginx.server_names))
    _refuse_clashes(routes, shared, server_names)
    values = _common(nginx)
    files = {"main.conf": _main(values, server_names, shared)}
    for route in routes:
        folder, template = ("hosts", "host.conf.j2") if route.server_name else ("locations", "location.conf.j2")
        files[f"{folder}/{route.name}.conf"] = _fill(template, values, **_fields(route))
    return files


def entry(nginx: NginxSpec) -> str:
    """Return the text of jlabd.conf, the one file that nginx.conf includes. Raises RenderError."""
    return _fill("entry.conf.j2", {"config_dir": allowed.path("nginx.config_dir", nginx.config_dir)})


def stamped(nginx: NginxSpec, files: Mapping[str, str], number: int) -> dict[str, str]:
    """Return the files of the generation `number`, completed by what lets nginx say that it is in force.

    Without any file there is nothing to be completed. Raises RenderError.
    """
    if not files:
        return {}
    mark, host = marks.mark(files, number), marks.host(nginx.config_dir)
    return {**files, marks.FILE: _fill("verify.conf.j2", _common(nginx), host=host, mark=mark)}


def _main(values: Mapping[str, object], server_names: list[str], shared: list[_Route]) -> str:
    root_taken = any(route.base_url == "/" for route in shared)
    return _fill("main.conf.j2", values, server_names=server_names, shared=bool(shared), root_taken=root_taken)


def _common(nginx: NginxSpec) -> dict[str, object]:
    """Return the values of [nginx] that all templates share. Raises RenderError."""
    tls = {key: getattr(nginx, key) for key in ("tls_certificate", "tls_certificate_key")}
    if any(tls.values()) and not all(tls.values()):
        raise RenderError("nginx.tls_certificate and nginx.tls_certificate_key are needed together.")
    return {
        "config_dir": allowed.path("nginx.config_dir", nginx.config_dir),
        "listen": allowed.listens("nginx.listen", nginx.listen),
        **{key: value and allowed.path(f"nginx.{key}", value) for key, value in tls.items()},
    }


def _route(spec: InstanceSpec) -> _Route:
    """Check everything that nginx is told about one instance. Raises RenderError."""
    who = f"Instance {allowed.name(spec.name)}"
    return _Route(
        name=spec.name,
        server_name=spec.server_name and allowed.host(f"{who}: server_name", spec.server_name),
        base_url=allowed.base_url(f"{who}: base_url", spec.base_url),
        upstream=allowed.upstream(f"{who}: listen", spec.listen),
        client_max_body_size=allowed.body_size(f"{who}: nginx.client_max_body_size", spec.route.client_max_body_size),
        read_timeout_ms=allowed.timeout_ms(f"{who}: nginx.read_timeout", spec.route.read_timeout_s),
    )


def _fields(route: _Route) -> dict[str, object]:
    return {key: getattr(route, key) for key in _Route.__slots__}


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


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("jlabd.nginx"),
        undefined=StrictUndefined,
        auto_reload=False,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  (this is not HTML; `allowed` checks each value, `quoted` quotes it)
    )
    environment.filters["quoted"] = allowed.quoted
    return environment


_ENVIRONMENT = _environment()


def _fill(template: str, values: Mapping[str, object], **more: object) -> str:
    return _ENVIRONMENT.get_template(template).render(values, **more)
