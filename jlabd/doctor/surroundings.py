"""Looks at what jlabd needs of the machine: free ports, cgroups, a group of administrators."""

from __future__ import annotations

import grp
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil

from jlabd.doctor.findings import Finding, advice, good, wrong
from jlabd.processes.cgroup_trees import base_folder
from jlabd.spec import Configuration, TcpListen

PORTS = "ports"
TREES = "processes"
ADMINISTRATORS = "administrators"


def about_ports(configuration: Configuration) -> Iterator[Finding]:
    """Say which ports of the configuration somebody else has; for the time when no daemon has them."""
    wanted: list[tuple[str, object]] = [("status_listen", configuration.daemon.status_listen)]
    wanted += [(f"instance {name}", spec.listen) for name, spec in configuration.instances.items()]
    ports = [(what, listen) for what, listen in wanted if isinstance(listen, TcpListen) and listen.port]
    taken = [(what, listen) for what, listen in ports if not _is_free(listen)]
    for what, listen in taken:
        sentence = f"{listen.host} port {listen.port}, wanted by {what}, is taken{_by_whom(listen.port)}"
        yield wrong(PORTS, sentence, "stop that program, or write another port")
    if ports and not taken:
        yield good(PORTS, f"{', '.join(str(listen.port) for _, listen in ports)} are free")


def _is_free(listen: TcpListen) -> bool:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        socket.create_server((listen.host, listen.port), family=family).close()
    except PermissionError:  # a port below 1024, asked by an ordinary user
        return True
    except OSError:
        return False
    return True


def _by_whom(port: int) -> str:
    """Return who listens on a port, as far as we may know."""
    try:
        found = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
        pids = {each.pid for each in found if each.laddr and each.laddr.port == port and each.pid}
        names = [f"{psutil.Process(pid).name()} (pid {pid})" for pid in sorted(pids)]
    except (psutil.Error, OSError):
        return ""
    return f" by {', '.join(names)}" if names else ""


def about_trees(configuration: Configuration, pids: list[int]) -> Iterator[Finding]:
    """Say how the processes of the running instances, with servers `pids`, are kept together."""
    if not pids:
        return
    leaf = base_folder(configuration.daemon.runtime_dir, "")
    try:
        own = [f"{leaf}/" in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8") for pid in pids]
    except OSError:  # one ended just now
        return
    if all(own):
        yield good(TREES, "each lab is in a cgroup of its own, with which all of its processes end")
    else:
        yield advice(
            TREES,
            "no cgroup is delegated to jlabd: it finds what belongs to a lab by marks, and limits cannot be enforced",
            "run it under systemd with the units that come with it (Delegate=yes)",
        )


def about_administrators(configuration: Configuration) -> Iterator[Finding]:
    """Say who may control everything."""
    name = configuration.daemon.admin_group
    if not name:
        yield good(ADMINISTRATORS, "root alone (daemon.admin_group is empty)")
        return
    try:
        members = grp.getgrnam(name).gr_mem
    except KeyError:
        fix = f"groupadd --system {name}, and usermod -aG {name} NAME for each administrator"
        yield advice(ADMINISTRATORS, f"there is no group {name}: nobody but root controls other people's labs", fix)
        return
    yield good(ADMINISTRATORS, f"root and the group {name} ({', '.join(members) or 'nobody is in it'})")
    if os.geteuid() != 0 and grp.getgrnam(name).gr_gid in os.getgroups():
        yield good(ADMINISTRATORS, "you are one of them")
