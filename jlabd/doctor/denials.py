"""What SELinux refused, as the audit log tells it, and what to do about it. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_LINE = re.compile(r"avc:\s+denied\s+\{ (?P<permissions>[^}]+) \} for\s+(?P<rest>.*)")
_FIELD = re.compile(r'(\w+)=("[^"]*"|\S+)')
_HEX = re.compile(r"(?:[0-9A-F]{2})+")

OURS = "jlabd_t"
NGINX = "httpd_t"
_UNCONFINED = frozenset({"unconfined_service_t", "initrc_t", "init_t", "unconfined_t"})
"""Domains in which a jlabd runs that has no policy module."""
_STRANGE = frozenset({"default_t", "unlabeled_t", "file_t", "var_run_t", "etc_t", "var_t", "tmp_t"})
"""Types that nothing of ours has once it is labelled."""
_PLACES = "/etc/jlabd.toml /etc/jlabd.d /etc/nginx/jlabd.d /run/jlabd /var/lib/jlabd /var/log/jlabd"


@dataclass(frozen=True, slots=True)
class Denial:
    """One line of the audit log, as far as it matters."""

    permissions: tuple[str, ...]
    source: str
    """Type of the process."""
    target: str
    """Type of what it wanted to touch."""
    kind: str
    """Class of that: file, unix_stream_socket, …"""
    program: str = ""
    object: str = ""
    """Path, file name or port; empty if the line has none."""
    enforced: bool = True
    """False: only noted, because the system or the domain is permissive."""

    @property
    def what(self) -> str:
        """Return a phrase that says what was refused."""
        name = f" {self.object}" if self.object else ""
        return f"{self.source} to {', '.join(self.permissions)} the {self.kind}{name} ({self.target})"


def parse(text: str) -> list[Denial]:
    """Return the denials in lines of the audit log or the kernel's, each kind once, in the order of their coming."""
    found = (_denial(line) for line in text.splitlines())
    return list(dict.fromkeys(denial for denial in found if denial is not None))


def _denial(line: str) -> Denial | None:
    match = _LINE.search(line)
    if match is None:
        return None
    fields = dict(_FIELD.findall(match["rest"]))
    source, target = (_type_of(fields.get(name, "")) for name in ("scontext", "tcontext"))
    if not source or not target or "tclass" not in fields:
        return None
    named = next((fields[key] for key in ("path", "name", "dest", "src") if key in fields), "")
    return Denial(
        permissions=tuple(match["permissions"].split()),
        source=source,
        target=target,
        kind=fields["tclass"],
        program=_text(fields.get("comm", "")),
        object=_text(named),
        enforced=fields.get("permissive", "0") == "0",
    )


def _type_of(context: str) -> str:
    return (context.split(":") + [""] * 3)[2]


def _text(value: str) -> str:
    """Return a value of the audit log as text: quoted, or in hexadecimal if it has characters that are awkward."""
    if value.startswith('"'):
        return value.strip('"')
    if len(value) > 5 and _HEX.fullmatch(value):
        return bytes.fromhex(value).decode(errors="replace").strip("\0")
    return value


def ours(denials: Iterable[Denial], ports: frozenset[str]) -> Iterator[tuple[Denial, str]]:
    """Yield the denials that keep jlabd or its labs from working, each with the fix.

    `ports` are those that the configuration speaks of, for nginx to listen on or to connect to.
    """
    for denial in denials:
        fix = _fix_of_ours(denial) if denial.source == OURS else _fix_of_nginx(denial, ports)
        if fix:
            yield denial, fix


def _fix_of_nginx(denial: Denial, ports: frozenset[str]) -> str:
    """Return what lets nginx do its part for us, "" if the denial is about something else."""
    if denial.source != NGINX:
        return ""
    ours_by_name = "jlabd" in denial.object or denial.target.startswith("jlabd_")
    match denial.kind, denial.permissions:
        case "unix_stream_socket", ("connectto",) if denial.target in _UNCONFINED and ours_by_name:
            return "dnf install jlabd-selinux, then `systemctl stop jlabd; systemctl start jlabd`"
        case "sock_file" | "dir" | "file" | "lnk_file", _ if ours_by_name or denial.object.endswith(".sock"):
            return "restorecon -Rv /run/jlabd /etc/nginx/jlabd.d (and dnf install jlabd-selinux, if it is missing)"
        case "tcp_socket", ("name_connect",) if denial.object in ports:
            return "setsebool -P httpd_can_network_connect on; or let the instances listen on unix sockets"
        case "tcp_socket", ("name_bind",) if denial.object in ports:
            return f"semanage port -a -t http_port_t -p tcp {denial.object}"
        case _:
            return ""


def _fix_of_ours(denial: Denial) -> str:
    """Return what lets the daemon go on."""
    permissions = set(denial.permissions)
    if denial.kind == "process" and permissions & {"transition", "dyntransition"}:
        return (
            f"labs of such users cannot be started in {denial.target}: give them another SELinux user "
            "(semanage login -a -s unconfined_u NAME)"
        )
    if denial.kind == "file" and permissions & {"execute", "entrypoint", "map"}:
        path = shlex.quote(denial.object or "VENV")
        return f"label the virtual environment as programs: semanage fcontext -a -t bin_t {path}; restorecon -v {path}"
    if denial.target in _STRANGE:
        return f"restorecon -Rv {shlex.quote(denial.object) if denial.object.startswith('/') else _PLACES}"
    return (
        "please report this line; until it is mended: semanage permissive -a jlabd_t, "
        "or ausearch -m avc -c jlabd --raw | audit2allow -M jlabd-local && semodule -i jlabd-local.pp"
    )
