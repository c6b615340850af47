"""What nginx is told: where each instance goes, and what is never let in."""

from dataclasses import replace

import pytest

from jlabd.nginx.render import RenderError, entry, render
from jlabd.spec import NginxSpec, RouteSpec, TcpListen, UnixListen
from tests.shells.nginx.servers import configured, instance

NGINX = NginxSpec(server_names=("lab.example.com",))


def test_each_instance_has_a_snippet_of_its_own():
    """One file for what is shared, one for each instance: on the shared host by path, or a host of its own."""
    files = render(configured(NGINX, instance("alice"), instance("bob", server_name="bob.example.com")))
    assert sorted(files) == ["hosts/bob.conf", "locations/alice.conf", "main.conf"]
    assert 'location ^~ "/alice/"' in files["locations/alice.conf"]
    assert 'server_name "bob.example.com"' in files["hosts/bob.conf"]


def test_one_instance_changes_one_snippet():
    """A change of one instance touches no other file."""
    before = render(configured(NGINX, instance("alice"), instance("bob")))
    route = RouteSpec(client_max_body_size=1, read_timeout_s=1.5)
    after = render(configured(NGINX, instance("alice"), instance("bob", route=route)))
    assert [name for name in after if after[name] != before[name]] == ["locations/bob.conf"]
    assert "client_max_body_size 1;" in after["locations/bob.conf"]
    assert "proxy_read_timeout 1500ms;" in after["locations/bob.conf"]


def test_without_a_name_nothing_is_published():
    """With neither a shared host nor an own name there is no file, and so no port is taken."""
    assert render(configured(NGINX, instance("alice"), server_names=())) == {}
    assert render(configured(NGINX)) == {}


def test_without_a_shared_host_only_hosts_are_published():
    """Instances with an own name do not need a shared host."""
    nginx = replace(NGINX, server_names=())
    files = render(configured(nginx, instance("alice"), instance("bob", server_name="bob.example.com")))
    assert sorted(files) == ["hosts/bob.conf", "main.conf"]


@pytest.mark.parametrize(
    ("listen", "upstream"),
    [
        (UnixListen("/run/jlabd/sockets/a.b@c.sock"), "http://unix:/run/jlabd/sockets/a.b@c.sock"),
        (TcpListen("127.0.0.1", 8888), "http://127.0.0.1:8888"),
        (TcpListen("0.0.0.0", 8888), "http://127.0.0.1:8888"),
        (TcpListen("::1", 8888), "http://[::1]:8888"),
        (TcpListen("::", 8888), "http://[::1]:8888"),
    ],
)
def test_the_upstream_is_where_the_instance_listens(listen, upstream):
    """Sockets and ports, without a URI part: nginx then passes the path on as it came."""
    files = render(configured(NGINX, instance("alice", listen)))
    assert f'proxy_pass "{upstream}";' in files["locations/alice.conf"]


def test_addresses_are_written_once():
    """80, *:80 and 0.0.0.0:80 are one address to nginx, which refuses it twice."""
    listen = ("80", "*:80", "0.0.0.0:80", "[::]:80", "[0::0]:80", "127.0.0.1:8080", "localhost:81")
    main = render(configured(NGINX, instance("alice"), listen=listen))["main.conf"]
    reject = main[main.index("server {") : main.index("server_name unknown")]
    found = [line.split()[1].rstrip(";") for line in reject.splitlines() if line.strip().startswith("listen")]
    assert found == ["*:80", "[::]:80", "127.0.0.1:8080", "localhost:81"]


def test_the_shared_root_may_belong_to_one_instance():
    """An instance with base_url / on the shared host takes the place of the empty answer there."""
    files = render(configured(NGINX, instance("alice", base_url="/"), instance("bob")))
    assert "location / {" not in files["main.conf"]
    assert 'location ^~ "/" {' in files["locations/alice.conf"]


def test_a_certificate_is_for_all_servers():
    """With a certificate each host speaks TLS with it; who asks for another one gets none."""
    tls = {"tls_certificate": "/etc/pki/lab.crt", "tls_certificate_key": "/etc/pki/lab.key", "listen": ("443 ssl",)}
    files = render(configured(NGINX, instance("a"), instance("b", server_name="b.example.com"), **tls))
    assert files["main.conf"].count("listen *:443 ssl http2;") == 2
    assert files["main.conf"].count('ssl_certificate_key "/etc/pki/lab.key";') == 1
    assert "ssl_reject_handshake on;" in files["main.conf"]
    assert files["hosts/b.conf"].count('ssl_certificate "/etc/pki/lab.crt";') == 1


HOSTILE = [
    "",
    "a b",
    "a;b",
    'a"b',
    "a'b",
    "a{b",
    "a}b",
    "a$b",
    "a\\b",
    "a\nb",
    "a#b",
    "a/b",
    "..",
    "a\x00b",
    "ä",
    "a" * 300,
]


@pytest.mark.parametrize("name", [*HOSTILE, "-a", ".a", "a..b", "a" * 33])
def test_a_hostile_instance_name_is_refused(name):
    """Names are checked here too, whoever checked them before."""
    with pytest.raises(RenderError, match="Instance"):
        render(configured(NGINX, instance(name, UnixListen("/run/x.sock"), base_url="/x/")))


@pytest.mark.parametrize(
    "name", [*HOSTILE[1:], "_", "*", ".example.com", "a..b", "~^.*$", "[::1", "[127.0.0.1]", "a:80"]
)
def test_a_hostile_host_name_is_refused(name):
    """Neither a variable nor a regular expression nor a catch-all can be smuggled in as a name."""
    with pytest.raises(RenderError, match="Instance alice: server_name"):
        render(configured(NGINX, instance("alice", server_name=name)))
    with pytest.raises(RenderError, match=r"nginx\.server_name"):
        render(configured(NGINX, instance("alice"), server_names=(name,)))


@pytest.mark.parametrize(
    "base_url", ["", "x", "/x", "//", "/x//", "/../", "/a/./", *(f"/{h}/" for h in HOSTILE[:14] if h != "a/b")]
)
def test_a_hostile_base_url_is_refused(base_url):
    """A path is whole plain components between slashes."""
    with pytest.raises(RenderError, match="Instance alice: base_url"):
        render(configured(NGINX, instance("alice", base_url=base_url)))


@pytest.mark.parametrize(
    "path", ["", "x", "/", "/a/../b", "/a:b", "/a$b", "/a;b", '/a"b', "/a*b", "/a?", "/a[b", "/a\n", "/a{"]
)
def test_a_hostile_path_is_refused(path):
    """Paths hold nothing that nginx or its include patterns read differently."""
    with pytest.raises(RenderError, match="Instance alice: listen"):
        render(configured(NGINX, instance("alice", UnixListen(path))))
    with pytest.raises(RenderError, match=r"nginx\.config_dir"):
        render(configured(NGINX, instance("alice"), config_dir=path))
    with pytest.raises(RenderError, match=r"nginx\.config_dir"):
        entry(replace(NGINX, config_dir=path))
    with pytest.raises(RenderError):
        render(configured(NGINX, instance("alice"), tls_certificate="/x", tls_certificate_key=path))


@pytest.mark.parametrize(
    "listen",
    [
        "",
        "x",
        "80;",
        "99999",
        "0",
        "lab.example.com:80",
        "unix:/x",
        "::1:80",
        "[::1%eth0]:80",
        "80 tls",
        "80  ssl",
        "80 ssl http2",
        "80 ssl;",
    ],
)
def test_a_hostile_address_is_refused(listen):
    """nginx listens on addresses and ports only; names would be looked up when nginx starts."""
    with pytest.raises(RenderError, match=r"nginx\.listen"):
        render(configured(NGINX, instance("alice"), listen=(listen,)))


@pytest.mark.parametrize(
    "route",
    [
        RouteSpec(client_max_body_size=-1),
        RouteSpec(client_max_body_size="1m; root /"),
        RouteSpec(read_timeout_s=0),
        RouteSpec(read_timeout_s=float("inf")),
        RouteSpec(read_timeout_s=float("nan")),
    ],
)
def test_senseless_numbers_are_refused(route):
    """Sizes and times are numbers that nginx can hold."""
    with pytest.raises(RenderError, match=r"Instance alice: nginx\."):
        render(configured(NGINX, instance("alice", route=route)))


def test_too_long_a_socket_path_is_refused():
    """nginx cannot connect to it, so the sentence says what to shorten."""
    with pytest.raises(RenderError, match="use a shorter runtime_dir"):
        render(configured(NGINX, instance("alice", UnixListen(f"/{'x' * 110}"))))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bob": {"server_name": "LAB.example.com"}}, "instance bob and the shared host"),
        ({"bob": {"server_name": "x.org"}, "carl": {"server_name": "X.ORG"}}, "instance bob and instance carl"),
        ({"bob": {"base_url": "/x/"}, "carl": {"base_url": "/x/"}}, "base_url /x/ .* instance bob and instance carl"),
    ],
)
def test_two_in_one_place_are_refused(changes, sentence):
    """nginx would only warn and serve the first of them."""
    with pytest.raises(RenderError, match=sentence):
        render(configured(NGINX, *(instance(name, **values) for name, values in changes.items())))


def test_half_a_certificate_is_refused():
    """Certificate and key come together, and there is a port."""
    with pytest.raises(RenderError, match="needed together"):
        render(configured(NGINX, instance("alice"), tls_certificate="/x"))
    with pytest.raises(RenderError, match=r"nginx\.listen is empty"):
        render(configured(NGINX, instance("alice"), listen=()))
