"""Addresses to listen on, and which of them get into each other's way."""

from __future__ import annotations

import ipaddress
import re

from jlabd.config.problems import shown
from jlabd.config.words import path
from jlabd.core.hosts import address
from jlabd.spec import Listen, TcpListen, UnixListen

SOCKET_PATH_MAX = 107
"""Bytes of the path of a unix socket: sun_path of unix(7) without its NUL."""

_ENDPOINT = re.compile(r"(?:(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z.-]+)):)?([0-9]{1,5})")
_LOOPBACK = "127.0.0.1"
_LAST_PORT = 65535
_NGINX = 'a port like 80, "HOST:PORT" with an IP address like "127.0.0.1:8080" or "[::]:80", or with ssl: "443 ssl"'
_FORMS = 'a port like 8888, or "HOST:PORT" with an IP address like "127.0.0.1:8888" or "[::1]:8888"'


def instance_listen(value: object) -> TcpListen | None:
    """Return where an instance listens; None is its own unix socket. Raises ValueError."""
    return None if value == "unix" else _tcp(value, f'"unix", {_FORMS}')


def status_listen(value: object) -> Listen | None:
    """Return where the status endpoint listens; None is nowhere. Raises ValueError."""
    if value == "":
        return None
    if isinstance(value, str) and value.startswith("unix:"):
        return UnixListen(_socket_path(value.removeprefix("unix:")))
    found = _tcp(value, f'"", "unix:PATH", {_FORMS}')
    if not ipaddress.ip_address(found.host).is_loopback:
        raise ValueError(
            f"{shown(value)} can be reached from outside and the endpoint asks for no password; write a loopback "
            'address like "127.0.0.1:9180", or "unix:PATH"'
        )
    return found


def nginx_listen(value: object) -> str:
    """Return an address as nginx's `listen` wants it, ` ssl` behind it if TLS is spoken there. Raises ValueError."""
    if isinstance(value, str) and value.startswith("unix:"):
        raise ValueError(f"{shown(value)}: nginx on a unix socket is not available in this version, write {_NGINX}")
    written, *words = value.split(" ") if isinstance(value, str) else [value]
    if "http2" in words:
        raise ValueError(f"{shown(value)}: nginx.http2 says whether there is HTTP/2; write the address and ssl alone")
    if words not in ([], ["ssl"]):
        raise ValueError(f"{shown(value)} is not an address to listen on, write {_NGINX}")
    host, port = _endpoint(written, _NGINX)
    place = str(port) if host is None else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{place} ssl" if words else place


def parsed_nginx_listen(value: str) -> TcpListen:
    """Return what `nginx_listen` returned as an address; nginx listens everywhere if only a port is given."""
    host, port = _endpoint(address(value), _NGINX)
    return TcpListen(host or "0.0.0.0", port)  # noqa: S104  (what nginx does, not what we do)


def overlap(one: TcpListen, other: TcpListen) -> bool:
    """Tell whether the two cannot both be bound."""
    hosts = {ipaddress.ip_address(one.host), ipaddress.ip_address(other.host)}
    return one.port == other.port and (len(hosts) == 1 or any(host.is_unspecified for host in hosts))


def _tcp(value: object, forms: str) -> TcpListen:
    host, port = _endpoint(value, forms)
    return TcpListen(host or _LOOPBACK, port)


def _endpoint(value: object, forms: str) -> tuple[str | None, int]:
    """Split "HOST:PORT" or a port; the host comes out as an IP address without brackets, None if there is none."""
    written = str(value) if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**5 else value
    found = _ENDPOINT.fullmatch(written) if isinstance(written, str) else None
    if found is None:
        raise ValueError(f"{shown(value)} is not an address to listen on, write {forms}")
    port = int(found[3])
    if not 1 <= port <= _LAST_PORT:
        raise ValueError(f"{shown(value)}: there is no port {port}, write one from 1 to {_LAST_PORT}")
    return _address(found[1], found[2], value), port


def _address(ipv6: str | None, host: str | None, value: object) -> str | None:
    if ipv6 is None and host in {None, "localhost"}:
        return None if host is None else _LOOPBACK
    try:
        return str(ipaddress.IPv6Address(ipv6) if ipv6 is not None else ipaddress.IPv4Address(host or ""))
    except ValueError:
        raise ValueError(f"{shown(value)}: write the host as an IP address or localhost, IPv6 in brackets") from None


def _socket_path(value: str) -> str:
    found = path(value)
    if extra := excess(found):
        raise ValueError(f"{shown(value)} is {bytes_too_long(extra)} for a unix socket, write a shorter path")
    return found


def excess(socket_path: str) -> int:
    """Return by how many bytes `socket_path` is too long for a unix socket; 0 is fine."""
    return max(0, len(socket_path.encode()) - SOCKET_PATH_MAX)


def bytes_too_long(extra: int) -> str:
    """Return `extra` in words."""
    return f"{extra} byte{'s' if extra > 1 else ''} too long"
