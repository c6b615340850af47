"""What only becomes wrong together: two instances on one port, or on one place of one host.

Everything is looked at in the order of the files, and what comes later is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from jlabd.config.drafts import Draft
from jlabd.config.listen import overlap
from jlabd.config.problems import Problem
from jlabd.spec import InstanceSpec, NginxSpec, TcpListen

Built = tuple[Draft, InstanceSpec]


@dataclass(frozen=True, slots=True)
class Ports:
    """The addresses that are taken, by port, and by whom."""

    _taken: dict[int, list[tuple[TcpListen, str]]] = field(default_factory=dict)

    def take(self, address: TcpListen, owner: str) -> str | None:
        """Take `address` for `owner`, and return whose it is if it is not free."""
        same_port = self._taken.setdefault(address.port, [])
        holder = next((other for taken, other in same_port if overlap(taken, address)), None)
        same_port.append((address, owner))
        return holder


def shared_ports(instances: Iterable[Built], ports: Ports) -> Iterator[Problem]:
    """Yield a problem for each instance whose port somebody else has."""
    for draft, spec in instances:
        if isinstance(spec.listen, TcpListen) and (holder := ports.take(spec.listen, f"instance {spec.name}")):
            port = spec.listen.port
            yield draft.problem(("listen",), f'port {port} is taken by {holder}; write another one, or "unix"')


def shared_places(instances: Iterable[Built], nginx: NginxSpec) -> Iterator[Problem]:
    """Yield a problem for each instance that nginx could not tell from another one."""
    hosts: dict[str, _Host] = {}
    for draft, spec in instances:
        if spec.server_name in nginx.server_names:
            yield draft.problem(
                ("server_name",),
                f"{spec.server_name!r} is a name of the shared host (nginx.server_name); write another one, "
                f"or leave it out to answer under /{spec.name}/",
            )
        elif wrong := hosts.setdefault(spec.server_name, _Host()).add(spec.base_url, spec.name):
            yield draft.problem(("base_url",), wrong)


@dataclass(frozen=True, slots=True)
class _Host:
    """The base URLs on one host."""

    _used: dict[str, str] = field(default_factory=dict)
    _above: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Each path around a base URL, with the first base URL in it and whose that is."""

    def add(self, base_url: str, name: str) -> str | None:
        """Add the base URL of instance `name`, and return what is wrong with it."""
        around = _around(base_url)
        wrong = self._clash(base_url, around)
        self._used.setdefault(base_url, name)
        for path in around:
            self._above.setdefault(path, (base_url, name))
        return wrong

    def _clash(self, base_url: str, around: list[str]) -> str | None:
        if same := self._used.get(base_url):
            return f"{base_url!r} is taken by instance {same} on the same host; write another one"
        for path in around:
            if outer := self._used.get(path):
                return f"{base_url!r} lies inside {path!r} of instance {outer} on the same host; put them side by side"
        if inner := self._above.get(base_url):
            return (
                f"{inner[0]!r} of instance {inner[1]} on the same host lies inside {base_url!r}; put them side by side"
            )
        return None


def _around(base_url: str) -> list[str]:
    """Return the paths that `base_url` lies in, from the root on: `/a/b/` lies in `/` and `/a/`."""
    parts = base_url.split("/")[1:-1]
    return ["/" + "".join(f"{part}/" for part in parts[:n]) for n in range(len(parts))]
