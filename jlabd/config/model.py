"""The tables of the configuration file as pydantic models: which keys there are, and what each may hold.

Fields are named as in `jlabd.spec`, aliases as in the file, and the defaults are those of `jlabd.spec`. What one value
may be is in `quantities`, `words` and `listen`; what only several values can tell is in `instances` and `together`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from jlabd.config import forms, listen, quantities, words
from jlabd.spec import (
    DaemonSpec,
    IdleSpec,
    InstanceSpec,
    KernelSpec,
    Limits,
    Listen,
    LogSpec,
    NginxSpec,
    ProbeSpec,
    Restart,
    RestartPolicy,
    RouteSpec,
    StopSpec,
    TcpListen,
    UnixListen,
)

_DAEMON = DaemonSpec()
_NGINX = NginxSpec()
_INSTANCE = InstanceSpec("", UnixListen(""))
_RESTART = RestartPolicy()
_STOP = StopSpec()
_PROBE = ProbeSpec()
_IDLE = IdleSpec()
_LIMITS = Limits()
_LOG = LogSpec()
_KERNEL = KernelSpec()
_ROUTE = RouteSpec()


def _restart(value: str) -> Restart:
    return Restart(value)


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Flag = Annotated[bool, PlainValidator(quantities.flag), forms.FLAG]
Seconds = Annotated[float, PlainValidator(quantities.seconds), forms.TIME]
PositiveSeconds = Annotated[float, PlainValidator(quantities.positive_seconds), forms.TIME]
Size = Annotated[int, PlainValidator(quantities.size), forms.SIZE]
Memory = Annotated[int, PlainValidator(quantities.memory), forms.SIZE]
LogSize = Annotated[int, PlainValidator(quantities.log_size), forms.SIZE]
Cores = Annotated[float, PlainValidator(quantities.cores), forms.QUOTA]
Umask = Annotated[int, PlainValidator(quantities.umask), forms.UMASK]
StopSignal = Annotated[int, PlainValidator(quantities.stop_signal), forms.SIGNAL]
Factor = Annotated[float, PlainValidator(quantities.factor), forms.number(1, 10)]
Count = Annotated[int, PlainValidator(quantities.whole(0, 1_000_000)), forms.whole(0, 1_000_000)]
PositiveCount = Annotated[int, PlainValidator(quantities.whole(1, 1_000_000)), forms.whole(1, 1_000_000)]
OpenFiles = Annotated[int, PlainValidator(quantities.whole(64, 1 << 30)), forms.whole(64, 1 << 30)]
Policy = Annotated[Restart, PlainValidator(words.choice(*Restart)), AfterValidator(_restart), forms.one_of(*Restart)]
LogLevel = Annotated[
    str,
    PlainValidator(words.choice("debug", "info", "warning", "error")),
    forms.one_of("debug", "info", "warning", "error"),
]
LogFormat = Annotated[str, PlainValidator(words.choice("auto", "json")), forms.one_of("auto", "json")]
Transport = Annotated[str, PlainValidator(words.choice("ipc", "tcp")), forms.one_of("ipc", "tcp")]
Account = Annotated[str, PlainValidator(words.account), forms.TEXT]
AccountOrNone = Annotated[str, PlainValidator(words.account_or_none), forms.TEXT]
Path = Annotated[str, PlainValidator(words.path), forms.PATH]
PathOrNone = Annotated[str, PlainValidator(words.path_or_none), forms.PATH_OR_NONE]
SecretFile = Annotated[str, PlainValidator(words.secret_file), forms.PATH_OR_NONE]
NginxPath = Annotated[str, PlainValidator(words.nginx_path), forms.PATH]
NginxPathOrNone = Annotated[str, PlainValidator(words.nginx_path_or_none), forms.PATH_OR_NONE]
BaseUrl = Annotated[str, PlainValidator(words.base_url), forms.BASE_URL]
HostOrNone = Annotated[str, PlainValidator(words.host_name_or_none), forms.TEXT]
Hosts = Annotated[
    list[Annotated[str, PlainValidator(words.host_name), forms.TEXT]], BeforeValidator(_listed), forms.ONE_OR_MORE
]
PasswordHash = Annotated[str, PlainValidator(words.password_hash), forms.TEXT]
Text = Annotated[str, PlainValidator(words.text), forms.TEXT]
Texts = list[Text]
Program = list[Annotated[str, PlainValidator(words.program_word), forms.TEXT]]
Environment = dict[Annotated[str, PlainValidator(words.variable)], Text]
InstanceListen = Annotated[TcpListen | None, PlainValidator(listen.instance_listen), forms.ADDRESS]
StatusListen = Annotated[Listen | None, PlainValidator(listen.status_listen), forms.ADDRESS]
NginxListens = list[Annotated[str, PlainValidator(listen.nginx_listen), forms.ADDRESS]]
Directives = Annotated[str, PlainValidator(words.directives), forms.TEXT]


class Table(BaseModel):
    """A table whose unknown keys are errors, and whose errors do not repeat what was given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DaemonTable(Table):
    """`[daemon]`."""

    include: PathOrNone = "/etc/jlabd.d/*.toml"
    runtime_dir: NginxPath = _DAEMON.runtime_dir
    state_dir: Path = _DAEMON.state_dir
    log_dir: Path = _DAEMON.log_dir
    status_listen: StatusListen = _DAEMON.status_listen
    admin_group: AccountOrNone = _DAEMON.admin_group
    warm_idle_s: Seconds = Field(default=_DAEMON.warm_idle_s, alias="warm_idle")
    log_level: LogLevel = _DAEMON.log_level
    log_format: LogFormat = _DAEMON.log_format


class NginxTable(Table):
    """`[nginx]`."""

    enabled: Flag = _NGINX.enabled
    config_dir: NginxPath = _NGINX.config_dir
    group: Account = _NGINX.group
    test_command: Annotated[Program, Field(min_length=1)] = list(_NGINX.test_command)
    reload_command: Annotated[Program, Field(min_length=1)] = list(_NGINX.reload_command)
    listen: Annotated[NginxListens, Field(min_length=1)] | None = None
    server_names: Hosts = Field(default=[], alias="server_name")
    tls_certificate: NginxPathOrNone = _NGINX.tls_certificate
    tls_certificate_key: NginxPathOrNone = _NGINX.tls_certificate_key
    http2: Flag = _NGINX.http2
    https_redirect: Flag = _NGINX.https_redirect
    hsts_s: Seconds = Field(default=_NGINX.hsts_s, alias="hsts")
    acme_root: NginxPathOrNone = _NGINX.acme_root
    access_log_dir: NginxPathOrNone = _NGINX.access_log_dir


class RestartTable(Table):
    """`restart` of an instance."""

    policy: Policy = _RESTART.policy
    initial_s: Seconds = Field(default=_RESTART.initial_s, alias="initial")
    factor: Factor = _RESTART.factor
    max_s: Seconds = Field(default=_RESTART.max_s, alias="max")
    stable_after_s: Seconds = Field(default=_RESTART.stable_after_s, alias="stable_after")
    give_up_after: Count = _RESTART.give_up_after


class StopTable(Table):
    """`stop` of an instance."""

    signal: StopSignal = _STOP.signal
    timeout_s: Seconds = Field(default=_STOP.timeout_s, alias="timeout")


class ReadyTable(Table):
    """`ready` of an instance."""

    ready_timeout_s: PositiveSeconds = Field(default=_PROBE.ready_timeout_s, alias="timeout")


class HealthTable(Table):
    """`health` of an instance."""

    interval_s: PositiveSeconds = Field(default=_PROBE.interval_s, alias="interval")
    timeout_s: PositiveSeconds = Field(default=_PROBE.timeout_s, alias="timeout")
    failures: PositiveCount = _PROBE.failures


class IdleTable(Table):
    """`idle` of an instance."""

    stop_after_s: Seconds = Field(default=_IDLE.stop_after_s, alias="stop_after")
    cull_kernels_after_s: Seconds = Field(default=_IDLE.cull_kernels_after_s, alias="cull_kernels_after")


class LimitsTable(Table):
    """`limits` of an instance. Limits of each process are not among `spec.Limits`, which are of all together."""

    memory_max: Memory | None = _LIMITS.memory_max
    memory_high: Memory | None = _LIMITS.memory_high
    cpu_quota: Cores | None = _LIMITS.cpu_quota
    tasks_max: PositiveCount | None = _LIMITS.tasks_max
    open_files: Annotated[OpenFiles | None, Field(exclude=True)] = _INSTANCE.open_files


class LogTable(Table):
    """`log` of an instance."""

    max_size: LogSize = _LOG.max_size
    keep: Count = _LOG.keep
    compress: Flag = _LOG.compress


class KernelTable(Table):
    """`kernel` of an instance."""

    asyncio_run: Flag = _KERNEL.asyncio_run
    transport: Transport = _KERNEL.transport


class RouteTable(Table):
    """`nginx` of an instance."""

    client_max_body_size: Size = _ROUTE.client_max_body_size
    read_timeout_s: PositiveSeconds = Field(default=_ROUTE.read_timeout_s, alias="read_timeout")
    tls_certificate: NginxPathOrNone = _ROUTE.tls_certificate
    tls_certificate_key: NginxPathOrNone = _ROUTE.tls_certificate_key
    extra: Directives = _ROUTE.extra
    template: PathOrNone = _ROUTE.template


class InstanceTable(Table):
    """`[instance.NAME]` and `[defaults]`."""

    user: Account | None = None
    allow_root: Flag = _INSTANCE.allow_root
    root_dir: PathOrNone = _INSTANCE.root_dir
    venv: Path = _INSTANCE.venv
    command: Program = []
    args: Texts = []
    config_files: list[Path] = []
    password_hash: PasswordHash = Field(default=_INSTANCE.password_hash, repr=False)
    password_hash_file: SecretFile = _INSTANCE.password_hash_file
    token_file: SecretFile = _INSTANCE.token_file
    server_name: HostOrNone = _INSTANCE.server_name
    base_url: BaseUrl | None = None
    listen: InstanceListen = None
    autostart: Flag = _INSTANCE.autostart
    on_demand: Flag = _INSTANCE.on_demand
    env: Environment = Field(default={}, repr=False)
    env_file: PathOrNone = _INSTANCE.env_file
    umask: Umask = _INSTANCE.umask
    warm: Flag = _INSTANCE.warm
    restart: RestartTable = RestartTable()
    stop: StopTable = StopTable()
    ready: ReadyTable = ReadyTable()
    health: HealthTable = HealthTable()
    idle: IdleTable = IdleTable()
    limits: LimitsTable = LimitsTable()
    no_new_privileges: Flag = _INSTANCE.no_new_privileges
    private_tmp: Flag = _INSTANCE.private_tmp
    log: LogTable = LogTable()
    kernel: KernelTable = KernelTable()
    route: RouteTable = Field(default=RouteTable(), alias="nginx")


class TemplateTable(InstanceTable):
    """`[template.NAME]`: an instance for each of some users."""

    users: list[Account] | None = None
    unix_group: Account | None = None
