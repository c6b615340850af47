"""Addresses to listen on."""

import pytest

from jlabd.config import listen
from jlabd.spec import TcpListen, UnixListen


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("unix", None),
        (8888, TcpListen("127.0.0.1", 8888)),
        ("8888", TcpListen("127.0.0.1", 8888)),
        ("localhost:8888", TcpListen("127.0.0.1", 8888)),
        ("10.0.0.1:1", TcpListen("10.0.0.1", 1)),
        ("0.0.0.0:65535", TcpListen("0.0.0.0", 65535)),
        ("[::1]:8888", TcpListen("::1", 8888)),
        ("[0:0::1]:8888", TcpListen("::1", 8888)),
    ],
)
def test_instances(written, expected):
    """An instance listens on its unix socket, on a port of the loopback address, or on an address."""
    assert listen.instance_listen(written) == expected


@pytest.mark.parametrize(
    "written",
    [
        *(0, -1, 65536, 10**400, 8888.0, True, False, [], ["8888"], None, "", "unix:", "unix:/x", "0", "65536", "x"),
        *("lab.example.com:8888", "*:8888", "::1:8888", "[::1]", "[::1%eth0]:80", "[1.2.3.4]:80", "300.1.1.1:80"),
        *("127.0.0.1", "127.0.0.1:", ":8888", "127.0.0.1:80 ", "127.0.0.1:80\n", "1.2.3.4:٨٠", "a;b:80", "01.2.3.4:80"),
    ],
)
def test_what_is_not_an_address(written):
    """Everything else is refused in a sentence that says what to write."""
    with pytest.raises(ValueError, match="write"):
        listen.instance_listen(written)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", None),
        ("127.0.0.1:9180", TcpListen("127.0.0.1", 9180)),
        ("127.9.9.9:9180", TcpListen("127.9.9.9", 9180)),
        ("localhost:9180", TcpListen("127.0.0.1", 9180)),
        ("[::1]:9180", TcpListen("::1", 9180)),
        ("unix:/run/status.sock", UnixListen("/run/status.sock")),
    ],
)
def test_status(written, expected):
    """The status endpoint listens on loopback, a unix socket, or not at all."""
    assert listen.status_listen(written) == expected


@pytest.mark.parametrize("written", ["0.0.0.0:9180", "[::]:9180", "192.0.2.1:9180"])
def test_status_stays_at_home(written):
    """A status endpoint that others could reach is refused, with the reason."""
    with pytest.raises(
        ValueError, match=r"reached from outside and the endpoint asks for no password; write a loopback"
    ):
        listen.status_listen(written)


@pytest.mark.parametrize("written", ["unix:", "unix:run/x", "unix", "unix:/" + "x" * 107, 0, True, "lab:9180"])
def test_what_is_not_a_status_address(written):
    """Relative, overlong and other paths and addresses are refused."""
    with pytest.raises(ValueError):
        listen.status_listen(written)
    assert listen.status_listen("unix:/" + "x" * 106)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        *(
            ("80", "80"),
            (80, "80"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::]:80", "[::]:80"),
            ("[0::0]:80", "[::]:80"),
        ),
        *(("443 ssl", "443 ssl"), ("[0::0]:443 ssl", "[::]:443 ssl"), ("localhost:443 ssl", "127.0.0.1:443 ssl")),
    ],
)
def test_nginx(written, expected):
    """Addresses of nginx come out as nginx reads them."""
    assert listen.nginx_listen(written) == expected


@pytest.mark.parametrize(
    "written",
    [
        "80 tls",
        "80;",
        "a:80",
        "*:80",
        "unix:/x",
        "443 default_server",
        "",
        0,
        True,
        "443 ssl http2",
        "443  ssl",
        "443 ssl;",
        "443 ssl\n",
        "443\tssl",
        "443 ssl ssl",
        "ssl",
        "443 SSL",
        " ssl",
    ],
)
def test_what_is_not_an_address_for_nginx(written):
    """Anything that could be a directive is refused."""
    with pytest.raises(ValueError, match="write"):
        listen.nginx_listen(written)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("127.0.0.1", 1), ("127.0.0.1", 1), True),
        (("127.0.0.1", 1), ("127.0.0.1", 2), False),
        (("127.0.0.1", 1), ("127.0.0.2", 1), False),
        (("127.0.0.1", 1), ("0.0.0.0", 1), True),
        (("::", 1), ("127.0.0.1", 1), True),
        (("::1", 1), ("0.0.0.0", 1), True),
        (("::1", 1), ("127.0.0.1", 1), False),
    ],
)
def test_overlap(one, other, expected):
    """Two addresses are in each other's way on one port of one host, or if one of them is every host."""
    assert listen.overlap(TcpListen(*one), TcpListen(*other)) is expected
    assert listen.overlap(TcpListen(*other), TcpListen(*one)) is expected
