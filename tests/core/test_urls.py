"""The address of an instance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jlabd.core.hosts import Certificate, certificates
from jlabd.core.urls import url
from jlabd.spec import Configuration, InstanceSpec, NginxSpec, RouteSpec, TcpListen, UnixListen

SPEC = InstanceSpec("alice", UnixListen("/run/jlabd/sockets/alice.sock"), base_url="/alice/")
SHARED = NginxSpec(server_names=("lab.example.com", "lab"))
TLS = replace(SHARED, tls_certificate="/x.pem", tls_certificate_key="/x.key", listen=("80", "443 ssl"))
OWN = RouteSpec(tls_certificate="/a.pem", tls_certificate_key="/a.key")
ALONE = replace(SPEC, server_name="a.example.com", base_url="/", route=OWN)
OFF = NginxSpec(enabled=False, server_names=("lab.example.com",))


@pytest.mark.parametrize(
    ("spec", "nginx", "expected"),
    [
        (SPEC, SHARED, "http://lab.example.com/alice/"),
        (SPEC, replace(SHARED, listen=("127.0.0.1:8080", "80")), "http://lab.example.com:8080/alice/"),
        (SPEC, replace(SHARED, listen=("[::]:8080",)), "http://lab.example.com:8080/alice/"),
        (replace(SPEC, server_name="a.example.com", base_url="/"), SHARED, "http://a.example.com/"),
        (SPEC, TLS, "https://lab.example.com/alice/"),
        (SPEC, replace(TLS, listen=("[::]:8443 ssl", "443 ssl", "80")), "https://lab.example.com:8443/alice/"),
        (SPEC, replace(TLS, listen=("8080",)), "http://lab.example.com:8080/alice/"),
        (SPEC, replace(TLS, tls_certificate="", listen=("443 ssl",)), "http://lab.example.com/alice/"),
        (ALONE, replace(SHARED, listen=("80", "8443 ssl")), "https://a.example.com:8443/"),
        (replace(ALONE, route=RouteSpec()), TLS, "https://a.example.com/"),
        (replace(ALONE, server_name=""), replace(SHARED, listen=("80", "443 ssl")), "http://lab.example.com/"),
        (SPEC, OFF, "http+unix://%2Frun%2Fjlabd%2Fsockets%2Falice.sock/alice/"),
        (SPEC, NginxSpec(server_names=()), "http+unix://%2Frun%2Fjlabd%2Fsockets%2Falice.sock/alice/"),
        (replace(SPEC, listen=TcpListen("0.0.0.0", 8888)), OFF, "http://127.0.0.1:8888/alice/"),
        (replace(SPEC, listen=TcpListen("::1", 8888)), OFF, "http://[::1]:8888/alice/"),
    ],
)
def test_url(spec, nginx, expected):
    """The public name where nginx has one, else the socket itself."""
    assert url(spec, nginx) == expected


def test_login_link_escapes_the_token():
    """A token from a file may hold anything."""
    assert url(SPEC, SHARED, token="a&b c") == "http://lab.example.com/alice/?token=a%26b+c"


def test_certificates_are_listed_once():
    """Each pair that some host speaks with, shared or own; none where nobody does."""
    instances = {"a": SPEC, "b": ALONE, "c": replace(SPEC, server_name="c.example.com")}
    found = certificates(Configuration("/x", nginx=TLS, instances=instances))
    assert found == (Certificate("/x.pem", "/x.key"), Certificate("/a.pem", "/a.key"))
    assert certificates(Configuration("/x", nginx=SHARED, instances={"a": SPEC})) == ()
