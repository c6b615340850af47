"""nginx's configuration: which servers and locations lead to which address. Pure.

Each location that leads to one place becomes a part; `together` finds the lab that answers there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jlabd.config.importers.findings import Fact, Finding, Given, Kind, Part, Remark
from jlabd.config.importers.nginx_syntax import Directive, parse
from jlabd.config.quantities import seconds

SHORT_S = 3600.0
_PORTS = {"http": 80, "https": 443}
_TARGET = re.compile(
    r"(https?)://(?:unix:(?P<socket>[^:]+):?|(?P<host>\[[0-9a-fA-F:]+\]|[^:/\s$]+)(?::(?P<port>\d{1,5}))?)(?:/.*)?"
)
_LITERAL = re.compile(r"\^?(/[A-Za-z0-9_.~@/-]*)")
_HSTS = re.compile(r"max-age=([0-9]{1,12})")
_LONGEST_HSTS_S = 365 * 86400
_SIZE = re.compile(r"[0-9]{1,12}[kKmMgG]?")

_HEADERS = "jlabd tells nginx what JupyterLab needs: HTTP/1.1, the websockets' headers, the Host as the browser sent it"
_TLS = "jlabd allows modern TLS only, and asks for no more than the certificate and its key"
_NOT_OURS = "the file that jlabd writes for nginx holds its instances only"
_DOOR = "not carried over, and it kept people out: without it JupyterLab's own login alone does"
_WEBSOCKETS = "jlabd lets websockets through everywhere"
_MAPPED = "jlabd writes such a map of its own"

LEFT_OUT = {
    **dict.fromkeys(("auth_basic", "auth_basic_user_file", "auth_request", "allow", "deny", "satisfy"), _DOOR),
    **dict.fromkeys(("ssl_client_certificate", "ssl_verify_client", "auth_jwt"), _DOOR),
    **dict.fromkeys(("access_log", "error_log", "log_not_found"), "nginx logs where its main configuration says"),
    **dict.fromkeys(("http2", "ssl"), _TLS),
    "map": _MAPPED,
}
_FACTS = frozenset({"listen", "server_name", "ssl_certificate", "ssl_certificate_key", "location", "proxy_pass"})
_COVERED = frozenset({"client_max_body_size", "proxy_read_timeout"})


@dataclass(slots=True)
class Reading:
    """What a file of nginx's says."""

    parts: list[Part] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Route:
    """A location that leads to `target`, with the blocks around it from the outside in."""

    path: str
    target: str
    around: tuple[Directive, ...]


def read(given: Given) -> Reading:
    """Return what the file says. Raises ImportFailedError."""
    root = parse(given)
    http = root.first("http") or root
    upstreams = {block.args[0]: block for block in http.below("upstream") if block.args}
    reading = Reading()
    servers = list(http.below("server"))
    if not servers and http.first("location"):
        servers = [Directive("server", [], 0, http.block)]
    for server in servers:
        _server(server, http, upstreams, given, reading)
    known = {"server", "upstream", "http", "events", "map", "include", "location"}
    for directive in http.block or ():
        if directive.name == "map":
            reading.remarks.append(Remark(given.at(directive.line), directive.written, _MAPPED))
        elif directive.name not in known and http is root and not (servers and servers[0].line == 0):
            reading.remarks.append(Remark(given.at(directive.line), directive.written, _left_out(directive)))
    return reading


def _server(
    server: Directive, http: Directive, upstreams: dict[str, Directive], given: Given, reading: Reading
) -> None:
    routes = sorted(_routes(server, (server,), upstreams), key=lambda route: len(route.path))
    first: dict[str, Part] = {}
    for route in routes:
        if route.target in first:
            why = _WEBSOCKETS if route.path == _ELSEWHERE else "it leads to the same lab, which has one address only"
            place = given.at(route.around[-1].line)
            first[route.target].findings.append(Remark(place, route.around[-1].written, why))
            continue
        part = Part(Kind.NGINX, given.at(server.line), _first_name(server), owner=given.owner)
        first[route.target] = part
        part.findings += _facts(route, (server, *_companions(server, http)), http, given)
        part.findings += _remarks(route.around[1:], given)
        reading.parts.append(part)
    left = list(_remarks((server,), given))
    left += [
        Remark(given.at(location.line), location.written, _NOT_OURS)
        for location in server.below("location")
        if not any(location is block for route in routes for block in route.around) and not _challenges(location)
    ]
    if first:
        next(iter(first.values())).findings += left
    else:
        names = " ".join(name for names in server.below("server_name") for name in names.args)
        what = f"server {names}".strip()
        reading.remarks.append(Remark(given.at(server.line), what, _empty_server(server)))


def _empty_server(server: Directive) -> str:
    if _sends_to_https(server):
        return "it sends people on to https, which jlabd does by itself where it has a certificate"
    return "it leads to no lab; " + _NOT_OURS


def _sends_to_https(block: Directive) -> bool:
    """Tell whether a server only redirects, as certbot and people write it."""
    for directive in block.block or ():
        if directive.name in {"return", "rewrite"} and any("https://" in word for word in directive.args):
            return True
        if directive.name in {"if", "location"} and _sends_to_https(directive):
            return True
    return False


def _companions(server: Directive, http: Directive) -> Iterator[Directive]:
    """Yield the servers of the same names that send people on to `server`."""
    names = _names(server)
    for other in http.below("server"):
        if other is not server and _sends_to_https(other) and (names & _names(other) or not _names(other)):
            yield other


def _names(server: Directive) -> set[str]:
    return {name.lower() for found in server.below("server_name") for name in found.args} - {"_", ""}


def _challenges(location: Directive) -> str:
    """Return the folder of ACME challenges that a location serves; empty if it serves none."""
    root = location.first("root")
    return root.args[0] if root and root.args and "/.well-known" in " ".join(location.args) else ""


def _first_name(server: Directive) -> str:
    return next((name for found in server.below("server_name") for name in found.args if name != "_"), "")


_ELSEWHERE = "~" * 300
"""The path of a location by a pattern: after all others."""


def _routes(block: Directive, around: tuple[Directive, ...], upstreams: dict[str, Directive]) -> Iterator[_Route]:
    for location in block.below("location"):
        inside = (*around, location)
        proxy = location.first("proxy_pass")
        named = _named(location, around[0]) if proxy is None else None
        if named is not None:
            proxy, inside = named.first("proxy_pass"), (*inside, named)
        path = _path(location)
        if proxy is not None and proxy.args and path is not None:
            yield _Route(path, _target(proxy.args[0], upstreams), inside)
        yield from _routes(location, inside, upstreams)
    if (proxy := block.first("proxy_pass")) and len(around) == 1 and proxy.args:
        yield _Route("/", _target(proxy.args[0], upstreams), around)


def _named(location: Directive, server: Directive) -> Directive | None:
    """Return the `@name` that `location` passes requests to."""
    names = {word for kind in ("try_files", "error_page") for found in location.below(kind) for word in found.args}
    return next((other for other in server.below("location") if other.args and other.args[-1] in names), None)


def _path(location: Directive) -> str | None:
    """Return the path of a location: None if it is reached through another one or for one address only."""
    match location.args:
        case [path] if path.startswith("/"):
            return path
        case ["^~", path]:
            return path
        case ["~" | "~*", pattern] if found := _LITERAL.fullmatch(pattern.removesuffix("(.*)$").removesuffix(".*")):
            return found[1]
        case ["~" | "~*", _]:
            return _ELSEWHERE
        case _:
            return None


def _target(address: str, upstreams: dict[str, Directive]) -> str:
    """Return where an address leads: a port in digits, the path of a socket, or the address itself."""
    found = _TARGET.fullmatch(address)
    if found is None:
        return address
    if found["socket"]:
        return found["socket"]
    upstream = upstreams.get(found["host"])
    if upstream is not None and (server := upstream.first("server")) and server.args:
        where = server.args[0]
        return where.removeprefix("unix:") if where.startswith("unix:") else where.rpartition(":")[2]
    return found["port"] or str(_PORTS[found[1]])


def _facts(route: _Route, servers: Sequence[Directive], http: Directive, given: Given) -> Iterator[Finding]:
    """Yield what a route says; the first of `servers` has it, the others send people on to that."""
    server = servers[0]
    place = given.at(route.around[-1].line)
    yield Fact(("@target",), route.target, place)
    if route.path == _ELSEWHERE:
        yield Remark(
            place, route.around[-1].written, "a pattern is no base_url; write the path below which the lab answers"
        )
    else:
        yield Fact(("@location",), route.path if route.path.endswith("/") else route.path + "/", place)
    names = [
        name.lower() for found in server.below("server_name") for name in found.args if name not in {"_", '""', ""}
    ]
    if names:
        yield Fact(("@hosts",), names, given.at(next(server.below("server_name")).line))
    listens = [found for one in servers for found in one.below("listen") if found.args]
    if listens:
        yield Fact(("@listens",), [found.args for found in listens], given.at(listens[0].line))
    yield from _about_tls(servers, given)
    for name in ("ssl_certificate", "ssl_certificate_key"):
        for block in (http, server):
            if (found := block.first(name)) and found.args:
                yield Fact((f"@{name}",), found.args[0], given.at(found.line))
    yield from _limits((http, *route.around), given)


def _about_tls(servers: Sequence[Directive], given: Given) -> Iterator[Finding]:
    for header in servers[0].below("add_header"):
        found = _HSTS.search(" ".join(header.args).lower())
        if found and header.args[0].lower() == "strict-transport-security":
            yield Fact(("@hsts",), min(int(found[1]), _LONGEST_HSTS_S), given.at(header.line))
    for server in servers:
        for location in server.below("location"):
            if folder := _challenges(location):
                yield Fact(("@acme_root",), folder, given.at(location.line))


def _limits(blocks: Sequence[Directive], given: Given) -> Iterator[Finding]:
    """Yield what the innermost block says of sizes and times."""
    for name, key in (("client_max_body_size", "client_max_body_size"), ("proxy_read_timeout", "read_timeout")):
        found = next((d for block in reversed(blocks) if (d := block.first(name)) and d.args), None)
        if found is None:
            continue
        place, value = given.at(found.line), found.args[0]
        if key == "client_max_body_size" and _SIZE.fullmatch(value):
            yield Fact(("nginx", key), value, place)
        elif key == "read_timeout" and (time := _seconds(value)) is not None and time >= SHORT_S:
            yield Fact(("nginx", key), int(time) if value.isdigit() else value, place)
        elif key == "read_timeout" and time is not None:
            yield Remark(place, found.written, "websockets that are silent so long would be cut; jlabd waits a day")
        else:
            yield Remark(place, found.written, "it cannot be said in jlabd's words")


def _seconds(value: str) -> float | None:
    try:
        return seconds(value)
    except ValueError:
        return None


def _remarks(blocks: Sequence[Directive], given: Given) -> Iterator[Remark]:
    for block in blocks:
        for directive in block.block or ():
            if directive.name not in _FACTS | _COVERED and not _is_hsts(directive):
                yield Remark(given.at(directive.line), directive.written, _left_out(directive))


def _is_hsts(directive: Directive) -> bool:
    words = " ".join(directive.args).lower()
    return directive.name == "add_header" and "strict-transport-security" in words and bool(_HSTS.search(words))


def _left_out(directive: Directive) -> str:
    if directive.name.startswith("proxy_"):
        return _HEADERS
    if directive.name in LEFT_OUT:
        return LEFT_OUT[directive.name]
    return _TLS if directive.name.startswith("ssl_") else _NOT_OURS
