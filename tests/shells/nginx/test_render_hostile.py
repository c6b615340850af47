"""Whatever stands in a value, nginx reads exactly the directives that were meant, or nothing is rendered at all."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import crossplane
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jlabd.nginx import allowed
from jlabd.nginx.render import RenderError, entry, render
from jlabd.nginx.surroundings import Surroundings
from jlabd.spec import NginxSpec, RouteSpec, TcpListen, UnixListen
from tests.shells.nginx.servers import configured, instance

NGINX = NginxSpec(
    config_dir="/etc/nginx/jlabd.d",
    listen=("80", "443 ssl", "[::]:443 ssl"),
    server_names=("lab.example.com",),
    tls_certificate="/etc/pki/lab.pem",
    tls_certificate_key="/etc/pki/lab.key",
    hsts_s=100.0,
    acme_root="/var/www/acme",
    access_log_dir="/var/log/nginx",
)
ROUTE = RouteSpec(tls_certificate="/etc/pki/bob.pem", tls_certificate_key="/etc/pki/bob.key")
ALICE = instance("alice", route=RouteSpec(extra="allow all;"))
BOB = instance("bob", server_name="bob.example.com", base_url="/b/", route=ROUTE)
AROUND = Surroundings({"/etc/pki/lab.pem": "a1", "/etc/pki/bob.pem": "b2"}, http2_directive=True)


def of_nginx(key, make=lambda value: value):
    """Return what puts a value into [nginx]."""
    return lambda value: configured(replace(NGINX, **{key: make(value)}), ALICE, BOB)


def of_alice(key, make=lambda value: value):
    """Return what puts a value into an instance on the shared host."""
    return lambda value: configured(NGINX, replace(ALICE, **{key: make(value)}), BOB)


def of_bob(key, make=lambda value: value):
    """Return what puts a value into an instance with a host of its own."""
    return lambda value: configured(NGINX, ALICE, replace(BOB, **{key: make(value)}))


def of_route(key):
    """Return what puts a value into `nginx` of that instance."""
    return lambda value: configured(NGINX, ALICE, replace(BOB, route=replace(ROUTE, **{key: value})))


FIELDS = {
    "config_dir": (of_nginx("config_dir"), "/etc/nginx/jlabd.d"),
    "listen": (of_nginx("listen", lambda value: ("80", value, "[::]:443 ssl")), "443 ssl"),
    "nginx.server_name": (of_nginx("server_names", lambda value: (value,)), "lab.example.com"),
    "nginx.tls_certificate": (of_nginx("tls_certificate"), "/etc/pki/lab.pem"),
    "nginx.tls_certificate_key": (of_nginx("tls_certificate_key"), "/etc/pki/lab.key"),
    "acme_root": (of_nginx("acme_root"), "/var/www/acme"),
    "access_log_dir": (of_nginx("access_log_dir"), "/var/log/nginx"),
    "name": (of_alice("name"), "alice"),
    "base_url": (of_alice("base_url"), "/alice/"),
    "socket": (of_alice("listen", UnixListen), "/run/jlabd/sockets/alice.sock"),
    "address": (of_alice("listen", lambda value: TcpListen(value, 8888)), "127.0.0.1"),
    "port": (of_alice("listen", lambda value: TcpListen("127.0.0.1", value)), "8888"),
    "server_name": (of_bob("server_name"), "bob.example.com"),
    "own base_url": (of_bob("base_url"), "/b/"),
    "tls_certificate": (of_route("tls_certificate"), "/etc/pki/bob.pem"),
    "tls_certificate_key": (of_route("tls_certificate_key"), "/etc/pki/bob.key"),
    "client_max_body_size": (of_route("client_max_body_size"), 1000),
    "read_timeout": (of_route("read_timeout_s"), 60.0),
    "hsts": (of_nginx("hsts_s"), 100.0),
}
HOSTILE = [
    *(
        ";",
        "{",
        "}",
        "\n",
        "\r",
        "\t",
        " ",
        "$",
        "$host",
        "${host}",
        '"',
        "'",
        "\\",
        "\0",
        "\x7f",
        "#",
        "*",
        "?",
        "[",
        "]",
    ),
    *(
        "~",
        "%00",
        "é",
        "ß",
        "\u2028",
        "\u202e",
        "\u00a0",
        "／",
        "../",
        "/./",
        "//",
        "-",
        "=",
        ",",
        "<",
        "|",
        "`",
        "(",
        ")",
    ),
    *(
        "; return 200;",
        "} server { listen 81;",
        '"; include /etc/passwd; #',
        "\n}\n",
        "\\\n",
        '\\"',
        "x" * 5000,
        " ssl",
    ),
]


def files_of(configuration):
    """Return everything that is rendered, the entry too."""
    return {**render(configuration, AROUND), "jlabd.conf": entry(configuration.nginx)}


def shape(block):
    """Return the names of the directives and how many arguments each has, block by block."""
    return [(each["directive"], len(each["args"]), shape(each.get("block", []))) for each in block]


def parsed(files, folder):
    """Return what crossplane reads of each file, by kind of file."""
    found = {}
    for name, text in files.items():
        path = folder / "x.conf"
        path.write_text(text, encoding="utf-8")
        result = crossplane.parse(str(path), single=True, check_ctx=False)
        assert result["errors"] == [], text
        found[name.partition("/")[0]] = result["config"][0]["parsed"]
    return found


def shapes(files, folder):
    """Return the shape of each file."""
    return {name: shape(block) for name, block in parsed(files, folder).items()}


@pytest.fixture(scope="module")
def meant(tmp_path_factory):
    """The shapes of what harmless values give."""
    return shapes(files_of(configured(NGINX, ALICE, BOB)), tmp_path_factory.mktemp("meant"))


def judge(field, value, meant, folder):
    """Return whether a value was taken; fail if another configuration came of it than was meant."""
    configure, _ = FIELDS[field]
    try:
        files = files_of(configure(value))
    except RenderError:
        return False
    assert shapes(files, folder) == meant, value
    return True


@pytest.mark.parametrize("field", FIELDS)
def test_hostile_values(field, meant, tmp_path):
    """The characters that mean something to nginx, before, in and behind a value, and alone."""
    good = FIELDS[field][1]
    assert judge(field, good, meant, tmp_path)
    text = str(good)
    middle = len(text) // 2
    for hostile in HOSTILE:
        for value in (hostile, f"{hostile}{text}", f"{text}{hostile}", f"{text[:middle]}{hostile}{text[middle:]}"):
            if not isinstance(good, str):
                with pytest.raises((RenderError, TypeError)):
                    files_of(FIELDS[field][0](value))
            elif judge(field, value, meant, tmp_path):
                assert not set(value) & set(";{}\n\r\t$\"'\\\0\x7f#*?[]%`|<>"), value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(data=st.data())
def test_any_text(data, meant, tmp_path):
    """Any text in any place."""
    field = data.draw(st.sampled_from([field for field, (_, good) in FIELDS.items() if isinstance(good, str)]))
    good = FIELDS[field][1]
    at = data.draw(st.integers(0, len(good)))
    value = data.draw(
        st.one_of(st.text(max_size=30), st.text(max_size=5).map(lambda text: good[:at] + text + good[at:]))
    )
    # These are meant to give something else: the root of a host, a host that is an address, nothing at all.
    assume(value not in {"", "/"} and not allowed.is_address(value))
    if field == "listen":
        assume(value.endswith(" ssl") and "::" not in value)
    judge(field, value, meant, tmp_path)


@pytest.mark.parametrize("directive", [False, True], ids=["old nginx", "new nginx"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_gixy_finds_nothing(tmp_path, tls, directive):
    """The whole configuration is clean but for what main.conf gives its reason for."""
    nginx = replace(NGINX, config_dir=str(tmp_path / "jlabd.d"))
    bob = BOB
    if not tls:
        nginx = replace(nginx, tls_certificate="", tls_certificate_key="", listen=("80",), hsts_s=0.0)
        bob = replace(BOB, route=RouteSpec())
    configuration = configured(nginx, ALICE, bob)
    for name, text in render(configuration, replace(AROUND, http2_directive=directive)).items():
        path = tmp_path / "jlabd.d/live" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "jlabd.d/jlabd.conf").write_text(entry(nginx))
    (tmp_path / "nginx.conf").write_text(f"events {{}}\nhttp {{ include {tmp_path}/jlabd.d/jlabd.conf; }}\n")
    gixy = Path(sys.executable).parent / "gixy"
    done = subprocess.run([gixy, "-f", "json", tmp_path / "nginx.conf"], capture_output=True, text=True, check=False)
    issues = {
        (issue["plugin"], issue["config"].split("server_name ")[1].split(";")[0]) for issue in json.loads(done.stdout)
    }
    # The first server of a port is its default without saying so: an administrator's own may say so.
    assert issues == {("default_server_flag", "unknown.jlabd.invalid")}
