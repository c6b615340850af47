"""Everything that is wrong is told at once, with file, line and key, and never with a secret."""

import os
import time
import traceback

import pytest

from jlabd.config.problems import ConfigError, Problem, dotted, shown
from jlabd.config.read import check, load
from tests.config.conftest import without_roots_rights

MANY = """\
[daemon]
include = ""
log_lvel = "info"
status_listen = "0.0.0.0:9180"
warm_idle = "soon"

[nginx]
server_name = "a;b"
listen = ["80", 5000000]
test_command = []
enabled = "true"
tls_certificate = "/x;"

[defaults]
umask = "999"
restart = { initial = "1x", polcy = "always" }

[instance.alice]
open_files = 3
user = "root"
env = { A = 1, LISTEN_FDS = "x" }
args = "x"
restart.factor = 11
limits = "x"

[instance."b/c"]
root_dir = "~/work"
idle.stop_after = "1 hour"

[instnce.x]
"""

MANY_PROBLEMS = """\
jlabd.toml:3: daemon.log_lvel: is unknown, did you mean log_level?
jlabd.toml:4: daemon.status_listen: '0.0.0.0:9180' can be reached from outside and the endpoint asks for no password; \
write a loopback address like "127.0.0.1:9180", or "unix:PATH"
jlabd.toml:5: daemon.warm_idle: 'soon' is not a time, write a number of seconds or a text like "90s", "5min", "2h"
jlabd.toml:8: nginx.server_name: 'a;b' is not a host name, write letters, digits, - and . only, like "lab.example.com"
jlabd.toml:9: nginx.listen[1]: 5000000 is not an address to listen on, write a port like 80, "HOST:PORT" with an IP \
address like "127.0.0.1:8080" or "[::]:80", or with ssl: "443 ssl"
jlabd.toml:10: nginx.test_command: is an empty list, write at least one item
jlabd.toml:11: nginx.enabled: 'true' is neither true nor false (without quotes)
jlabd.toml:12: nginx.tls_certificate: '/x;' cannot be written into nginx's configuration, use a path of letters, \
digits, spaces and _ . @ + ~ , = - without . and .. as names
jlabd.toml:15: defaults.umask: '999' is not a umask, write octal digits like "0077"
jlabd.toml:16: defaults.restart.initial: '1x' is not a time, write a number of seconds or a text like "90s", "5min", \
"2h"
jlabd.toml:16: defaults.restart.polcy: is unknown, did you mean policy?
jlabd.toml:19: instance.alice.open_files: is unknown here, did you mean limits.open_files?
jlabd.toml:20: instance.alice.user: 'root' could do anything to this machine; write another account, or allow_root = \
true too
jlabd.toml:21: instance.alice.env.A: must be a text in quotes
jlabd.toml:21: instance.alice.env.LISTEN_FDS: must not be set: jlabd hands the listening socket over with it
jlabd.toml:22: instance.alice.args: must be a list, write ["…", "…"]
jlabd.toml:23: instance.alice.restart.factor: 11 does not fit, write a number from 1 to 10
jlabd.toml:24: instance.alice.limits: must be a table, write { KEY = VALUE }
jlabd.toml:26: instance."b/c": 'b/c' cannot be a name, write up to 32 ASCII letters, digits and _ . @ - that begin \
with a letter or digit, without two dots in a row
jlabd.toml:26: instance."b/c".user: is missing; the daemon runs as root, so write the account to run as, like \
user = "alice"
jlabd.toml:27: instance."b/c".root_dir: '~/work' is not an absolute path, ~ is not filled in, write the folder's whole \
path from /
jlabd.toml:28: instance."b/c".idle.stop_after: '1 hour' is not a time, write a number of seconds or a text like \
"90s", "5min", "2h"
jlabd.toml:30: instnce: is unknown, did you mean instance?
"""


def test_all_at_once(files):
    """Mistakes in every table are told in one go, in the order of the lines, each once."""
    assert files.check(MANY, uid=0) == MANY_PROBLEMS.splitlines()


def test_the_error_holds_all(files):
    """What cannot be loaded raises with the same problems as a check tells."""
    with pytest.raises(ConfigError) as told:
        files.load(MANY, uid=0)
    assert files.told(told.value.problems) == MANY_PROBLEMS.splitlines()
    assert str(told.value).count("\n") + 1 == len(told.value.problems)


@pytest.mark.parametrize(
    ("table", "key", "nearest"),
    [
        ("daemon", "runtimedir", "runtime_dir"),
        ("nginx", "servername", "server_name"),
        ("defaults", "rootdir", "root_dir"),
        ("instance.a", "password", "password_hash"),
        ("instance.a", "token", "token_file"),
        ("instance.a.restart", "intial", "initial"),
        ("instance.a", "max_size", "log.max_size"),
        ("instance.a", "memory_max", "limits.memory_max"),
        ("template.a", "user_s", "users"),
        ("template.a", "group", "unix_group"),
    ],
)
def test_nearest_names(files, table, key, nearest):
    """An unknown key is told together with the name that was probably meant."""
    told = files.check(f"[{table}]\n{key} = 'x'\n")
    assert any(f".{key}: is unknown" in line and line.endswith(f"did you mean {nearest}?") for line in told), told


def test_names_that_resemble_none(files):
    """Where no name is near, the names that exist are listed."""
    assert files.check("[defaults]\nstop.zzz = 1\n") == [
        "jlabd.toml:2: defaults.stop.zzz: is unknown, the keys here are signal, timeout"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[instance.a]\n[instance.b]\n[instance.a]\n", ":3: instance.a: is defined twice, first in line 1; keep one"),
        ("[instance.a]\numask = '1'\numask = '2'\n", ":3: instance.a.umask: is defined twice, first in line 2;"),
        ("[instance.a]\nuser = alice\n", ':2: is not TOML: invalid value at column 8, write texts in quotes: user = "'),
        ("a = [1,\n2\n", ":2: is not TOML: unclosed array at the end of the file"),
        ("[a\n", ":1: is not TOML: expected ']'"),
        (b"\n# caf\xe9\n", ":2: is not UTF-8 here, save the file as UTF-8"),
        (b"\xef\xbb\xbf[daemon]\n", ":1: begins with a byte order mark"),
        (b"a = 1\0\n", ":1: is not TOML"),
        ("a = " + "9" * 5000, ": holds a number that is far too large"),
        ("a = " + "[" * 20_000, ": is nested too deeply"),
        ("instance = 5", ":1: instance: must be a table, write [instance.NAME]"),
        ("[[instance]]\nuser = 'a'", ":1: instance: must be a table, write [instance.NAME]"),
        ("[instance]\nuser = 'a'", ":2: instance.user: is not a table, write [instance.NAME] and below it the keys"),
        ("daemon = true", ":1: daemon: must be a table, write [daemon]"),
        ("[[defaults]]", ":1: defaults: must be a table, write [defaults]"),
        ("user = 'a'", ":1: user: is unknown, the keys here are daemon, defaults, instance, nginx, template"),
    ],
)
def test_broken_files(files, text, expected):
    """What is not TOML, or not UTF-8, or has no shape, is told with its line."""
    told = files.told(check(files.write("jlabd.toml", text)))
    assert told[0].startswith(f"jlabd.toml{expected}"), told


def test_files_that_cannot_be_read(files):
    """Missing files, folders and FIFOs are problems without a line, and nothing hangs."""
    os.mkfifo(files.folder / "fifo")
    paths = ["missing.toml", ".", "fifo", "x" * 300]
    told = [files.told(check(files.folder / path)) for path in paths]
    assert [len(problems) for problems in told] == [1] * 4
    assert told[0] == ["missing.toml: cannot be read: No such file or directory"]
    assert "is a folder, not a file" in told[1][0]
    assert told[2] == ["fifo: is not a regular file"]
    assert "cannot be read: File name too long" in told[3][0]


def test_files_without_permission(public_files):
    """A file that may not be read is a problem."""
    main = public_files.write("jlabd.toml", "")
    main.chmod(0o644)
    with without_roots_rights():
        assert check(main) == []
    main.chmod(0)
    with without_roots_rights():
        assert public_files.told(check(main)) == ["jlabd.toml: cannot be read: Permission denied"]


def test_world_writable_main_file(files):
    """A daemon of root does not obey a file that everybody can write."""
    files.write_main("").chmod(0o666)
    told = files.told(check(files.main, uid=0))
    assert told == ["jlabd.toml: can be written by everybody and the daemon runs as root; run chmod o-w on it"]
    assert check(files.main, uid=12345) == []


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "[daemon]\n[nginx]\n[defaults]\n[instance]\n[template]\n"])
def test_nothing_is_valid(files, text):
    """A configuration without instances is valid."""
    files.write("jlabd.toml", text)
    assert dict(load(files.main).configuration.instances) == {}


SECRET = "hunter_top_secret"


def _secrets():
    """Yield wrong configurations with the secret in every place where one may stand, in the right form or not."""
    values = [f'"{SECRET}"', f'["{SECRET}"]', f'{{ x = "{SECRET}" }}', f'"{SECRET}\\u0000"', f'"sha1:{SECRET}:00"']
    keys = ["password_hash", "password", "password_hash_file", "token_file", "token", "env", "env.A", "args", "command"]
    for table in ("instance.a", "template.a", "defaults"):
        for key in keys:
            for value in values:
                users = "" if table != "template.a" else "users = ['ann', 'bob']\n"
                yield f"[{table}]\n{users}umask = 'bad'\n{key} = {value}\n[instance.b]\n"
    yield f"[template.a]\nusers = ['ann']\nenv = {{ A = '{{{SECRET}}}', B = '{{x}}{SECRET}' }}\n"
    yield f"[instance.a]\npassword_hash = '{SECRET}\n"
    yield f"[instance.a]\npassword_hash = {SECRET}\n"
    yield f"[instance.a]\nenv = {{ A = '{SECRET}' B = '{SECRET}' }}\n"


@pytest.mark.parametrize("text", list(_secrets()))
def test_no_secret_is_told(files, text):
    """No message, error or traceback repeats what stands in a place for secrets."""
    with pytest.raises(ConfigError) as told:
        files.load(text)
    assert told.value.problems
    assert SECRET not in "".join(traceback.format_exception(told.value)) + repr(told.value)


def test_specs_hide_secrets(files):
    """The representation of a spec has neither the hash nor the environment, but the spec itself has."""
    hashed = "sha1:0e112c3ddfce:a68df677475c2b47b6e86d0467eec97ac5f4b85a"
    spec = files.instance(f"[instance.alice]\npassword_hash = '{hashed}'\nenv = {{ KEY = '{SECRET}' }}\n")
    assert (spec.password_hash, dict(spec.env)) == (hashed, {"KEY": SECRET})
    assert SECRET not in repr(spec)
    assert hashed not in repr(spec)


def test_how_problems_read():
    """A problem reads FILE:LINE: KEY: MESSAGE; what does not apply is left out."""
    assert str(Problem("/f", 3, "a.b", "is wrong")) == "/f:3: a.b: is wrong"
    assert str(Problem("/f", None, "", "is wrong")) == "/f: is wrong"
    assert dotted(("instance", "a b", "args", 2)) == 'instance."a b".args[2]'
    assert dotted(("a", 'x"y\n')) == 'a."x\\"y\\n"'


def test_how_values_read():
    """Values in messages are one short line."""
    assert [shown(v) for v in (True, 5, "a\nb", [1], {}, 10**4000)] == [
        *("true", "5", r"'a\nb'", "a list", "a table", "this number")
    ]
    assert len(shown("x" * 10_000)) < 100


def test_a_thousand_instances(files):
    """A thousand instances load in well under a second of processor time, and in two with a mistake in each."""
    instances = "".join(
        f'[instance.u{n}]\nroot_dir = "/home/u{n}"\nlisten = {20_000 + n}\nrestart = {{ initial = "2s" }}\n'
        f'env = {{ A = "b" }}\nserver_name = "u{n}.example.com"\n'
        for n in range(1000)
    )
    begin = time.process_time()
    assert len(files.load(instances).configuration.instances) == 1000
    good = time.process_time()
    assert len(files.check(instances.replace('"2s"', '"2x"'))) == 1000
    bad = time.process_time()
    assert good - begin < 1.0
    assert bad - good < 2.0
