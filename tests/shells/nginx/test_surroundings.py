"""What of the machine decides the text: certificates, templates, and which nginx it is."""

import os

import pytest

from jlabd.nginx.surroundings import Surroundings, SurroundingsError, look
from jlabd.processes.command import CommandResult
from jlabd.spec import NginxSpec, RouteSpec
from tests.shells.nginx.servers import configured, instance
from tests.shells.nginx.site import serial_of

LAB = "lab.example.com"


def says(words, calls=()):
    """Return what runs commands, none of which does anything but say `words`."""

    async def run(argv, timeout_s, **more):
        if isinstance(calls, list):
            calls.append(argv)
        return CommandResult(0, words)

    return run


def with_tls(pair, *instances, **more):
    """Return a configuration with a certificate."""
    nginx = NginxSpec(server_names=(LAB,), tls_certificate=pair[0], tls_certificate_key=pair[1], **more)
    return configured(nginx, *(instances or (instance("alice"),)))


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (("gone.pem", "ca.key"), r"TLS: \S+gone.pem does not exist"),
        (("ca.pem", "gone.key"), r"TLS: \S+gone.key does not exist"),
        (("ca.pem", "ca.pem"), r"TLS: \S+ca.pem is not a private key in PEM format"),
        (("ca.key", "ca.key"), r"TLS: \S+ca.key and \S+ca.key cannot be used by OpenSSL"),
        (("openssl.cnf", "ca.key"), r"TLS: \S+openssl.cnf is not a certificate in PEM format"),
        ((".", "ca.key"), r"TLS: \S+ cannot be read: Is a directory"),
        (("ca.pem", "2-bob.example.com.key"), r"TLS: \S+ is not the key of the certificate \S+ca.pem"),
        (("ca.pem", "locked.key"), r"TLS: \S+locked.key is protected by a passphrase"),
    ],
)
async def test_a_certificate_that_cannot_be_used(authority, certificates, pair, sentence, monkeypatch):
    """The error names the file and what is wrong with it."""
    monkeypatch.setattr("jlabd.nginx.surroundings.PATIENCE_S", 0.0)
    pair = tuple(str(authority.folder / name) for name in pair)
    with pytest.raises(SurroundingsError, match=sentence):
        await look(with_tls(pair), says(""))


@pytest.mark.parametrize(
    ("words", "directive"),
    [
        ("nginx version: nginx/1.20.1", False),
        ("nginx version: nginx/1.25.0 (Ubuntu)", False),
        ("nginx version: nginx/1.25.1", True),
        ("nginx version: nginx/1.31.3", True),
        ("nginx version: nginx/2.0.0", True),
        ("nginx version: openresty/1.27.1.2", True),
        ("sudo: a password is required", False),
        ("", False),
    ],
)
async def test_which_nginx(certificates, words, directive):
    """From 1.25.1 on HTTP/2 is a directive of its own; what cannot be understood is taken for an old one."""
    calls = []
    found = await look(with_tls(certificates[0]), says(words, calls))
    assert found.http2_directive is directive
    assert calls == [["nginx", "-v"]]


async def test_nothing_is_looked_at_that_does_not_matter(certificates):
    """Without TLS no program is run and no file read; with HTTP/2 switched off nginx is not asked."""
    calls = []
    assert await look(configured(NginxSpec(), instance("alice")), says("", calls)) == Surroundings()
    await look(with_tls(certificates[0], http2=False), says("", calls))
    await look(with_tls(certificates[0], test_command=("check-nginx",)), says("", calls))
    assert calls == []


async def test_each_certificate_has_a_fingerprint(certificates):
    """Shared and own ones; an instance on the shared host has none of its own."""
    shared, own = certificates
    route = RouteSpec(tls_certificate=own[0], tls_certificate_key=own[1])
    bob = instance("bob", server_name="bob.example.com", route=route)
    found = await look(with_tls(shared, instance("alice", route=route), bob), says(""))
    assert set(found.fingerprints) == {shared[0], own[0]}
    assert len(set(found.fingerprints.values())) == 2
    assert serial_of(shared) != serial_of(own)


@pytest.mark.root
async def test_a_template_that_others_could_write_is_not_taken(tmp_path):
    """Where we are root a template must be root's alone, at the moment when it is read."""
    path = tmp_path / "own.j2"
    path.write_text("server {}")
    wanted = configured(NginxSpec(), instance("alice", route=RouteSpec(template=str(path))))
    assert (await look(wanted, says(""))).templates == {str(path): "server {}"}
    for harm in (lambda: path.chmod(0o666), lambda: os.chown(path, 12345, -1)):
        path.chmod(0o644)
        harm()
        with pytest.raises(SurroundingsError, match=r"is not for nginx, which root runs: \S+own\.j2 "):
            await look(wanted, says(""))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (os.mkfifo, "is not a file"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8"),
        (lambda path: None, "No such file"),
    ],
)
async def test_a_template_that_is_none(tmp_path, make, sentence):
    """Folders, pipes and other bytes are refused, and nothing waits for a writer."""
    make(tmp_path / "own.j2")
    wanted = configured(NginxSpec(), instance("alice", route=RouteSpec(template=str(tmp_path / "own.j2"))))
    with pytest.raises(SurroundingsError, match=sentence):
        await look(wanted, says(""))
