"""Where an instance answers, as a person or a script would open it."""

from __future__ import annotations

from typing import assert_never
from urllib.parse import quote, urlencode

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
        return f"http://{host}{_port(nginx)}"
    match spec.listen:
        case UnixListen(path):
            return f"http+unix://{quote(path, safe='')}"
        case TcpListen(address, port):
            return f"http://{_reachable(address)}:{port}"
        case _:
            assert_never(spec.listen)


def _port(nginx: NginxSpec) -> str:
    """Name the port as far as a browser needs it; the first `listen` is the one that people use."""
    port = nginx.listen[0].rsplit(":", 1)[-1] if nginx.listen else "80"
    return "" if port == "80" else f":{port}"


def _reachable(address: str) -> str:
    """Turn an address to listen on into one to connect to."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104  (compared, not bound)
    return f"[{reachable}]" if ":" in reachable else reachable
