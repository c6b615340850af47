"""Where an instance answers, as a person or a script would open it."""

from __future__ import annotations

from typing import assert_never
from urllib.parse import quote, urlencode

from jlabd.core.hosts import certificate_of, first_port
from jlabd.spec import InstanceSpec, NginxSpec, TcpListen, UnixListen


def url(spec: InstanceSpec, nginx: NginxSpec, token: str = "") -> str:
    """Return the address to open; with `token` one that logs in.

    Behind nginx that is the public name. Without nginx it is the TCP port, or for a unix socket `http+unix://…`, as
    jupyter_server writes it (the socket's path percent-encoded as the host).
    """
    query = f"?{urlencode({'token': token})}" if token else ""
    return f"{_origin(spec, nginx)}{spec.base_url}{query}"


def _origin(spec: InstanceSpec, nginx: NginxSpec) -> str:
    host = spec.server_name or next(iter(nginx.server_names), "")
    if nginx.enabled and host:
        return _public(host, spec, nginx)
    match spec.listen:
        case UnixListen(path):
            return f"http+unix://{quote(path, safe='')}"
        case TcpListen(address, port):
            return f"http://{_reachable(address)}:{port}"
        case _:
            assert_never(spec.listen)


def _public(host: str, spec: InstanceSpec, nginx: NginxSpec) -> str:
    """Name the host, and the port as far as a browser needs it."""
    if certificate_of(spec, nginx) and (port := first_port(nginx.listen, tls=True)):
        return f"https://{host}" if port == "443" else f"https://{host}:{port}"
    port = first_port(nginx.listen, tls=False) or "80"
    return f"http://{host}" if port == "80" else f"http://{host}:{port}"


def _reachable(address: str) -> str:
    """Turn an address to listen on into one to connect to."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104  (compared, not bound)
    return f"[{reachable}]" if ":" in reachable else reachable
