"""The vocabulary: what the operator asked for, as frozen values.

Nothing here reads a file, a clock or the system. `config` makes these values, everybody else reads them. Durations are
seconds and end in `_s`; sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


class Restart(StrEnum):
    """When an instance that ended by itself is started again."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Whether, and after which delay, an instance that ended by itself comes back (see `core.restart`)."""

    policy: Restart = Restart.ALWAYS
    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 60.0
    stable_after_s: float = 120.0
    give_up_after: int = 0
    """Failures in a row after which the instance is `failed`; 0 keeps trying."""


@dataclass(frozen=True, slots=True)
class StopSpec:
    """How a server is asked to end, and how long it may take before its whole tree is killed."""

    signal: int = 15
    timeout_s: float = 15.0


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """Readiness and liveness: when a server counts as up, and when as hung."""

    ready_timeout_s: float = 60.0
    interval_s: float = 30.0
    timeout_s: float = 5.0
    failures: int = 3


@dataclass(frozen=True, slots=True)
class IdleSpec:
    """Inactivity after which a lab is stopped or its kernels are culled; 0 is never."""

    stop_after_s: float = 0.0
    cull_kernels_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What all processes of one instance may use together; None is no limit. Enforced by its cgroup."""

    memory_max: int | None = None
    """Bytes, page cache included, swap not; beyond it the kernel kills."""
    memory_high: int | None = None
    """Bytes beyond which processes are slowed down and made to give memory back."""
    cpu_quota: float | None = None
    """Share of one core: 2.0 is two cores."""
    tasks_max: int | None = None
    """Processes and threads."""


@dataclass(frozen=True, slots=True)
class LogSpec:
    """Rotation of one instance's log."""

    max_size: int = 50 * 1024 * 1024
    keep: int = 5
    compress: bool = True


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """How the kernels of one instance run."""

    asyncio_run: bool = False
    transport: str = "ipc"


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """What nginx is told for one instance."""

    client_max_body_size: int = 100 * 1024 * 1024
    read_timeout_s: float = 86400.0
    tls_certificate: str = ""
    """For an own `server_name`; empty is the certificate of `NginxSpec`."""
    tls_certificate_key: str = ""
    extra: str = ""
    """The administrator's own directives, in the instance's location."""
    template: str = ""
    """A file to render instead of our own template."""


@dataclass(frozen=True, slots=True)
class UnixListen:
    """A listening unix socket at `path`."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpListen:
    """A listening TCP socket; `host` is an address, IPv6 without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp:{host}:{self.port}"


Listen = UnixListen | TcpListen


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One supervised instance as the operator asked for it, every default filled in."""

    name: str
    listen: Listen
    user: str | None = None
    """Account to run as; None is the daemon's own."""
    group: str | None = None
    allow_root: bool = False
    root_dir: str = ""
    """Working directory and root of the file browser; empty is the account's home."""
    venv: str = "/opt/jupyterlab"
    command: tuple[str, ...] = ()
    """A program to run instead of JupyterLab; may hold {socket}, {port}, {base_url}."""
    args: tuple[str, ...] = ()
    config_files: tuple[str, ...] = ()
    password_hash: str = field(default="", repr=False)
    password_hash_file: str = ""
    token_file: str = ""
    server_name: str = ""
    """Own host name; empty is a path on the shared one."""
    base_url: str = "/"
    hostnames: tuple[str, ...] = ()
    """Names under which browsers reach it: what JupyterLab accepts as Host."""
    autostart: bool = True
    on_demand: bool = False
    env: Mapping[str, str] = field(default_factory=_nothing, repr=False)
    env_file: str = ""
    umask: int = 0o077
    warm: bool = True
    restart: RestartPolicy = RestartPolicy()
    stop: StopSpec = StopSpec()
    probe: ProbeSpec = ProbeSpec()
    idle: IdleSpec = IdleSpec()
    limits: Limits = Limits()
    open_files: int | None = None
    """Descriptors of each process; None is the system's own limit. `limits.open_files` in the file."""
    no_new_privileges: bool = False
    """Programs like sudo give no rights."""
    private_tmp: bool = False
    """An empty /tmp and /var/tmp of its own, in memory, gone with its last process."""
    log: LogSpec = LogSpec()
    kernel: KernelSpec = KernelSpec()
    route: RouteSpec = RouteSpec()


@dataclass(frozen=True, slots=True)
class NginxSpec:
    """The part of nginx that jlabd writes."""

    enabled: bool = True
    config_dir: str = "/etc/nginx/jlabd.d"
    group: str = "nginx"
    test_command: tuple[str, ...] = ("nginx", "-t")
    reload_command: tuple[str, ...] = ("nginx", "-s", "reload")
    listen: tuple[str, ...] = ("80",)
    """`PORT` or `HOST:PORT`, with ` ssl` behind it where TLS is spoken."""
    server_names: tuple[str, ...] = ()
    """Names of the shared host."""
    tls_certificate: str = ""
    tls_certificate_key: str = ""
    http2: bool = True
    https_redirect: bool = True
    """Hosts with a certificate answer with a redirect where no TLS is spoken."""
    hsts_s: float = 0.0
    """How long browsers shall insist on TLS; 0 says nothing about it."""
    acme_root: str = ""
    """Folder with `.well-known/acme-challenge/`, served without TLS."""
    access_log_dir: str = ""
    """Folder for a log per host; empty is no access log."""


@dataclass(frozen=True, slots=True)
class DaemonSpec:
    """The daemon's own folders and habits."""

    runtime_dir: str = "/run/jlabd"
    state_dir: str = "/var/lib/jlabd"
    log_dir: str = "/var/log/jlabd"
    status_listen: Listen | None = TcpListen("127.0.0.1", 9180)
    admin_group: str = "jlabd"
    warm_idle_s: float = 1800.0
    log_level: str = "info"
    log_format: str = "auto"

    @property
    def control_socket(self) -> str:
        """Where `jlabctl` finds the daemon."""
        return f"{self.runtime_dir}/control.sock"

    @property
    def sockets_dir(self) -> str:
        """The folder of the instances' listening sockets, root:nginx 0750."""
        return f"{self.runtime_dir}/sockets"


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything one set of configuration files asks for."""

    path: str
    daemon: DaemonSpec = DaemonSpec()
    nginx: NginxSpec = NginxSpec()
    instances: Mapping[str, InstanceSpec] = field(default_factory=lambda: MappingProxyType({}))
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Instance name → the file that defines it."""
