"""Instances: what each key becomes, what they inherit, and what is wrong with one by itself."""

import dataclasses
import os
import pwd

import pytest

from jlabd.config.read import load
from jlabd.spec import (
    DaemonSpec,
    IdleSpec,
    InstanceSpec,
    KernelSpec,
    Limits,
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

HASH = "argon2:$argon2id$v=19$m=10240,t=10,p=8$c29tZXNhbHQ$aGFzaGhhc2hoYXNo"

EVERYTHING = f"""\
[daemon]
include = ""
runtime_dir = "/run/other"
state_dir = "/var/lib/other/"
log_dir = "/var/log/other"
status_listen = "[::1]:9181"
admin_group = "wheel"
warm_idle = "30min"
log_level = "debug"
log_format = "json"

[nginx]
enabled = true
config_dir = "/etc/nginx/other.d"
group = "www-data"
test_command = ["/usr/sbin/nginx", "-t"]
reload_command = ["/usr/sbin/nginx", "-s", "reload"]
listen = ["127.0.0.1:8080", "[::1]:8080"]
server_name = ["Lab.example.com", "10.0.0.1", "lab.example.com"]
tls_certificate = ""
tls_certificate_key = ""

[instance.alice]
user = "alice"
allow_root = false
root_dir = "/home/alice/work"
venv = "/opt/lab"
args = ["--debug", ""]
config_files = ["/home/alice/a.py"]
password_hash = "{HASH}"
token_file = "/etc/token"
server_name = "Alice.example.com"
base_url = "/x/"
listen = 8888
autostart = false
on_demand = false
env = {{ LANG = "de_DE.UTF-8", ODD = "%s $HOME \\"ü\\" {{user}}" }}
env_file = "/etc/env"
umask = "0022"
warm = false
restart = {{ policy = "on-failure", initial = "500ms", factor = 1.5, max = "2m", stable_after = 60, give_up_after = 3 }}
stop = {{ signal = "SIGQUIT", timeout = "0" }}
ready = {{ timeout = "2min" }}
health = {{ interval = "10s", timeout = "2.5s", failures = 5 }}
idle = {{ stop_after = "0", cull_kernels_after = 0 }}
limits = {{ memory_max = "4G", memory_high = "3G", cpu_quota = "250%", tasks_max = 512, open_files = 4096 }}
no_new_privileges = true
private_tmp = true
log = {{ max_size = "1M", keep = 0, compress = false }}
kernel = {{ asyncio_run = true, transport = "tcp" }}
nginx = {{ client_max_body_size = 0, read_timeout = "2h" }}
"""


def test_every_key(files):
    """Every key of the file ends up in its place of the specs."""
    configuration = files.load(EVERYTHING, uid=0).configuration
    assert configuration.daemon == DaemonSpec(
        runtime_dir="/run/other",
        state_dir="/var/lib/other",
        log_dir="/var/log/other",
        status_listen=TcpListen("::1", 9181),
        admin_group="wheel",
        log_level="debug",
        log_format="json",
    )
    assert configuration.nginx == NginxSpec(
        config_dir="/etc/nginx/other.d",
        group="www-data",
        test_command=("/usr/sbin/nginx", "-t"),
        reload_command=("/usr/sbin/nginx", "-s", "reload"),
        listen=("127.0.0.1:8080", "[::1]:8080"),
        server_names=("lab.example.com", "10.0.0.1"),
    )
    assert configuration.instances["alice"] == InstanceSpec(
        name="alice",
        listen=TcpListen("127.0.0.1", 8888),
        user="alice",
        root_dir="/home/alice/work",
        venv="/opt/lab",
        args=("--debug", ""),
        config_files=("/home/alice/a.py",),
        password_hash=HASH,
        token_file="/etc/token",
        server_name="alice.example.com",
        base_url="/x/",
        hostnames=("alice.example.com",),
        autostart=False,
        env={"LANG": "de_DE.UTF-8", "ODD": '%s $HOME "ü" {user}'},
        env_file="/etc/env",
        umask=0o022,
        restart=RestartPolicy(Restart.ON_FAILURE, 0.5, 1.5, 120, 60, 3),
        stop=StopSpec(3, 0),
        probe=ProbeSpec(120, 10, 2.5, 5),
        limits=Limits(4 << 30, 3 << 30, 2.5, 512),
        open_files=4096,
        no_new_privileges=True,
        private_tmp=True,
        warm=False,
        log=LogSpec(2**20, 0, False),
        kernel=KernelSpec(asyncio_run=True, transport="tcp"),
        route=RouteSpec(0, 7200),
    )
    assert configuration.sources == {"alice": str(files.main)}
    assert configuration.path == str(files.main)


def test_every_field_is_tested():
    """The example above changes every field of the instance that this version can change."""
    later = {"hostnames", "group", "allow_root", "command", "password_hash_file", "on_demand", "idle"}
    named = {line.split(" ")[0] for line in EVERYTHING.partition("[instance.alice]")[2].splitlines()}
    spelled = {"ready": "probe", "nginx": "route"}
    named.add("open_files")  # stands among the limits
    assert {f.name for f in dataclasses.fields(InstanceSpec)} - later - {"name"} <= {spelled.get(k, k) for k in named}


def test_defaults(files):
    """An instance that says nothing has the defaults of the vocabulary, a unix socket and a path of its own."""
    configuration = files.load("[instance.alice]\n").configuration
    names = configuration.nginx.server_names
    socket = UnixListen("/run/jlabd/sockets/alice.sock")
    assert configuration.instances["alice"] == InstanceSpec("alice", socket, base_url="/alice/", hostnames=names)
    assert configuration.daemon == DaemonSpec()
    assert dataclasses.replace(configuration.nginx, server_names=()) == NginxSpec()
    assert names[-3:] == ("localhost", "127.0.0.1", "[::1]")


@pytest.mark.parametrize("nginx", ["true", "false"])
def test_base_url(files, nginx):
    """An instance answers under /NAME/, or under / if it has a host of its own, with nginx and without."""
    text = f"[nginx]\nenabled = {nginx}\n[instance.a]\n[instance.b]\nserver_name = 'b.example.com'\n"
    found = files.load(text).configuration.instances
    assert (found["a"].base_url, found["b"].base_url) == ("/a/", "/")


@pytest.mark.parametrize(
    ("nginx", "shared", "own"),
    [("true", ("x.org", "y.org"), ("b.org",)), ("false", ("x.org", "y.org"), ("b.org", "x.org", "y.org"))],
)
def test_names_of_the_host(files, nginx, shared, own):
    """An instance is told the names under which browsers reach it: its own host, or those of the shared one."""
    text = (
        f"[nginx]\nenabled = {nginx}\nserver_name = ['x.org', 'y.org']\n[instance.a]\n[instance.b]\nserver_name='b.org'"
    )
    found = files.load(text).configuration.instances
    assert (found["a"].hostnames, found["b"].hostnames) == (shared, own)


def test_inheriting(files):
    """What [defaults] says is completed key by key, inline tables too, and lists are replaced."""
    spec = files.instance("""
[defaults]
venv = "/opt/lab"
args = ["--one"]
restart = { initial = "5s", max = "9s" }
env = { A = "1", B = "2" }
[instance.alice]
args = ["--two"]
restart.max = "8s"
env = { B = "3" }
""")
    assert (spec.venv, spec.args, dict(spec.env)) == ("/opt/lab", ("--two",), {"A": "1", "B": "3"})
    assert (spec.restart.initial_s, spec.restart.max_s, spec.restart.factor) == (5, 8, 2)


def test_own_choice_against_the_defaults(files):
    """An instance that chooses a hash file, or a command, is not disturbed by the other of the defaults."""
    loaded = files.load(f"""
[defaults]
password_hash = "{HASH}"
config_files = ["/etc/lab.py"]
[instance.alice]
password_hash_file = "/etc/hash"
[instance.bob]
command = ["server", "--port", "{{port}}"]
args = ["--verbose"]
""")
    alice, bob = loaded.configuration.instances["alice"], loaded.configuration.instances["bob"]
    assert (alice.password_hash, alice.password_hash_file) == ("", "/etc/hash")
    assert (bob.command, bob.args, bob.config_files) == (("server", "--port", "{port}"), ("--verbose",), ())
    assert bob.password_hash == HASH


def test_contradicting_defaults(files):
    """Two passwords in the defaults are told there, once."""
    text = f"[defaults]\npassword_hash = '{HASH}'\npassword_hash_file = '/x'\n[instance.a]\n[instance.b]\n"
    assert files.check(text) == [
        "jlabd.toml:3: defaults.password_hash_file: cannot be used together with password_hash, keep one of them"
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Lab.example.com", ("lab.example.com", "lab", "localhost", "127.0.0.1", "[::1]")),
        ("lab", ("lab", "localhost", "127.0.0.1", "[::1]")),
        ("my_machine;", ("localhost", "127.0.0.1", "[::1]")),
    ],
)
def test_names_of_the_machine(files, monkeypatch, name, expected):
    """Without nginx.server_name the shared host has the machine's own names, if they are names."""
    monkeypatch.setattr("socket.gethostname", lambda: name)
    assert files.load("").configuration.nginx.server_names == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (f"password_hash = '{HASH}'\npassword_hash_file = '/x'", "password_hash_file: cannot be used together with"),
        ("command = ['x']\nconfig_files = ['/x']", "config_files: are for JupyterLab, not for the program of command"),
        ("\ncommand = ['']", "command[0]: is empty"),
        ("\nconfig_files = ['x']", "config_files[0]: 'x' is not an absolute path"),
        ("\nvenv = ''", "venv: '' is not an absolute path"),
        ("\nkernel.transport = 'udp'", 'kernel.transport: \'udp\' is not known here, write "ipc" or "tcp"'),
        ("\nrestart.policy = 'Always'", 'restart.policy: \'Always\' is not known here, write "always" or "on-failure"'),
        ("\nautostart = 'true'", "autostart: 'true' is neither true nor false"),
        ("\nlog.keep = true", "log.keep: true does not fit, write a whole number from 0"),
        ("\nlog.max_size = 1", "log.max_size: 1 is too small for a log"),
        ("\nhealth.failures = 0", "health.failures: 0 does not fit, write a whole number from 1"),
        ("\nready.timeout = 0", "ready.timeout: 0 is too short"),
        ("\nstop.timeout = -1", "stop.timeout: -1 is out of range"),
        ("\nrestart.initial = nan", "restart.initial: nan is not a time"),
        ("\nrestart.max = inf", "restart.max: inf is out of range"),
        ("\nstop.signal = 'INT'", "stop.signal: SIGINT does not stop JupyterLab, it would leave its kernels behind"),
        ("\nlimits.open_files = 4", "limits.open_files: 4 does not fit"),
        ("\nlimits.memory_max = 400", "limits.memory_max: 400 is too little memory for any program"),
        ("limits.memory_max = '1G'\nlimits.memory_high = '1G'", "limits.memory_high: is not below memory_max"),
        ("\nlimits.tasks_max = 0", "limits.tasks_max: 0 does not fit"),
        ("root_dir = '/tmp/x'\nprivate_tmp = true", "private_tmp: would hide root_dir /tmp/x; move that out of /tmp"),
        ("venv = '/var/tmp'\nprivate_tmp = true", "private_tmp: would hide venv /var/tmp; move that"),
        ("\nenv = { 'A=B' = 'x' }", 'env."A=B": cannot be the name of an environment variable'),
        ("\ngroup = 'x'", "group: is unknown"),
        ("\numask = 77", "umask: 77 is not a umask"),
    ],
)
def test_what_is_wrong_with_one(files, keys, expected):
    """Contradictions and wrong values of one instance are told with their key and line."""
    [told] = files.check(f"[instance.a]\n{keys}\n")
    assert told.startswith(f"jlabd.toml:3: instance.a.{expected}"), told


def test_sleep_is_for_jupyterlab(files):
    """Only JupyterLab says what goes on in it; any program may be started on demand."""
    text = """[defaults]
idle.stop_after = "2h"
[instance.a]
on_demand = true
idle.cull_kernels_after = "1h"
[instance.b]
on_demand = true
command = ["/bin/b"]
idle.stop_after = 0
[instance.c]
command = ["/bin/c"]
"""
    told = files.check(text)
    assert told == [
        (
            "jlabd.toml:2: defaults.idle.stop_after: needs JupyterLab, which says what goes on in it; "
            "write 0 for the program of command"
        )
    ]
    instances = files.load(text.partition("[instance.c]")[0]).configuration.instances
    assert instances["a"].idle == IdleSpec(stop_after_s=7200, cull_kernels_after_s=3600)
    assert (instances["b"].on_demand, instances["b"].idle.stop_after_s) == (True, 0)


def test_who_an_instance_runs_as(files):
    """As root every instance needs an account, root itself only on purpose; an unknown one is not judged here."""
    text = """[instance.a]
[instance.b]
user = "root"
[instance.c]
user = "root"
allow_root = true
[instance.d]
user = "no-such-user"
[instance.e]
user = 5
"""
    told = files.check(text, uid=0)
    assert [line.split(": ")[:2] for line in told] == [
        ["jlabd.toml:1", "instance.a.user"],
        ["jlabd.toml:3", "instance.b.user"],
        ["jlabd.toml:10", "instance.e.user"],
    ]
    assert "allow_root = true" in told[1]


def test_who_an_instance_runs_as_without_root(files):
    """A daemon that is not root can only run instances as itself."""
    own = pwd.getpwuid(os.getuid()).pw_name
    path = files.write_main(f"[instance.a]\n[instance.b]\nuser = '{own}'\n")
    # Whoever runs the tests: the rules of an ordinary user, under a uid whose name is known.
    nobody = pwd.getpwnam("nobody")
    files.write_main("[instance.a]\n[instance.b]\nuser = 'nobody'\n")
    found = load(path, accounts=files.people, uid=nobody.pw_uid).configuration.instances
    assert (found["a"].user, found["b"].user) == (None, "nobody")
    assert files.check("[instance.a]\nuser = 'alice'\n", uid=nobody.pw_uid) == [
        "jlabd.toml:2: instance.a.user: the daemon runs as nobody and cannot become 'alice'; leave user out"
    ]


def test_the_longest_paths(files):
    """A unix socket's path may have 107 bytes, and whatever is longer is told with how much is too much."""
    # {runtime_dir}/labs/a.000000/rt/kernel-{36}-ipc-5 has 67 bytes after the folder.
    fits, long = "/" + "r" * 39, "/" + "r" * 41
    template = "[daemon]\ninclude = ''\nruntime_dir = '{}'\n[instance.a]\n{}\n"
    assert files.check(template.format(fits, "")) == []
    [told] = files.check(template.format(long, ""))
    assert told.startswith("jlabd.toml:4: instance.a: the paths of its unix sockets would be 2 bytes too long; use a ")
    assert files.check(template.format(long, "kernel.transport = 'tcp'")) == []
    assert files.check(template.format(long, "command = ['x']")) == []
    assert files.check(template.format(fits, "").replace("instance.a", "instance.aa")) != []


def test_much_too_long_folder(files):
    """A folder in which no socket fits is told once, not for every instance; bytes count, not letters."""
    instances = "".join(f"[instance.a{n}]\n" for n in range(50))
    [told] = files.check(f"[daemon]\ninclude = ''\nruntime_dir = '/{'ü' * 50}'\n{instances}")
    # "/" + 100 bytes + "/sockets/x.sock"
    assert told == "jlabd.toml:3: daemon.runtime_dir: is 9 bytes too long for unix sockets in it, write a shorter path"


def test_longest_name_with_a_command(files):
    """The socket's own path counts with a command too, but not with a port."""
    text = "[daemon]\ninclude = ''\nruntime_dir = '/{}'\n[instance.{}]\ncommand = ['x']\n{}\n"
    assert files.check(text.format("r" * 60, "n" * 32, "")) == []
    assert "1 byte too long" in files.check(text.format("r" * 61, "n" * 32, ""))[0]
    assert files.check(text.format("r" * 61, "n" * 32, "listen = 8888")) == []


@pytest.mark.parametrize("folder", ["/", "/etc", "/etc/nginx", "/etc/nginx/conf.d/", "/var/log/jlabd", "/run/jlabd"])
def test_folders_that_are_not_for_nginx_alone(files, folder):
    """The folder that jlabd owns whole is none that others use."""
    told = files.check(f"[nginx]\nconfig_dir = '{folder}'\n")
    assert len(told) == 1
    assert told[0].startswith("jlabd.toml:2: nginx.config_dir: ")
