"""TLS through the real nginx, with an authority of our own: who is served how, and what happens when it is renewed."""

import asyncio
import ssl
import subprocess
import warnings
from contextlib import closing, suppress
from pathlib import Path

import aiohttp
import pytest
import websocket
from rig.nginx import free_port

from jlabd.spec import RouteSpec, UnixListen
from tests.shells.nginx.servers import configured, instance
from tests.shells.nginx.site import BOB, LAB, serial_of

SECRET = "5ecre7"


async def test_each_host_shows_its_certificate_and_the_lab_is_told_of_tls(site, labs):
    """By name (SNI) each host has its own certificate; the lab learns that the browser came by https, and the port."""
    bob = RouteSpec(tls_certificate=site.own[0], tls_certificate_key=site.own[1])
    alice = await labs.start("alice")
    bob = await labs.start("bob", server_name=BOB, route=bob)
    await site.serve(alice, bob)
    status, _, body = await site.ask(LAB, "/alice/lab")
    assert status == 200
    assert f'"Host": "{LAB}:{site.secure}"' in body
    assert '"X-Forwarded-Proto": "https"' in body
    assert '"name": "bob"' in (await site.ask(BOB, "/x"))[2]
    assert site.serial(LAB) == serial_of(site.shared)
    assert site.serial(BOB) == serial_of(site.own)
    tested = await site.server.run(site.spec().test_command, 20)
    assert "warn" not in tested.output


async def test_an_unknown_name_gets_no_certificate(small_site, labs):
    """A handshake for a name that is not ours is refused; another Host inside a good one reaches no lab."""
    bob = RouteSpec(tls_certificate=small_site.own[0], tls_certificate_key=small_site.own[1])
    await small_site.serve(await labs.start("alice"), await labs.start("bob", server_name=BOB, route=bob))
    with pytest.raises(ssl.SSLError, match=r"unrecognized.name|UNRECOGNIZED_NAME"):
        small_site.serial("evil.example.com")
    status, _, body = await small_site.ask(LAB, "/alice/", headers={"Host": "evil.example.com"})
    assert (status, body) == (421, "No such host here.\n")


async def test_an_address_as_name_is_served(small_site, labs):
    """Who comes to an address sends no name in the handshake: the certificate is that of the host with an address."""
    await small_site.serve(await labs.start("alice"), server_names=(LAB, "127.0.0.1"))
    assert small_site.serial("127.0.0.1") == serial_of(small_site.shared)
    assert (await small_site.ask("127.0.0.1", "/alice/"))[0] == 200


async def test_plain_http_is_sent_on(site, labs):
    """Without TLS there is a redirect to the same place with TLS, for each host with a certificate."""
    await site.serve(await labs.start("alice"), await labs.start("bob", server_name=BOB))
    for host, path in ((LAB, "/alice/lab?x=1%2F"), (BOB, "/"), (LAB, "/nobody/")):
        status, headers, _ = await site.ask(host, path, tls=False)
        assert (status, headers["Location"]) == (308, f"https://{host}:{site.secure}{path}")
    assert (await site.ask("evil.example.com", "/", tls=False))[0] == 421


async def test_plain_http_can_be_served_too(small_site, labs):
    """https_redirect = false serves both ways; HSTS is said by TLS only, also with nginx's own answers."""
    lost = instance("lost", UnixListen("/nonexistent/x.sock"))
    await small_site.serve(await labs.start("alice"), lost, https_redirect=False, hsts_s=15552000.0)
    status, headers, body = await small_site.ask(LAB, "/alice/", tls=False)
    assert (status, "Strict-Transport-Security" in headers) == (200, False)
    assert '"X-Forwarded-Proto": "http"' in body
    for path, expected in (("/alice/", 200), ("/lost/", 503), ("/nobody/", 404)):
        status, headers, _ = await small_site.ask(LAB, path)
        assert (status, headers["Strict-Transport-Security"]) == (expected, "max-age=15552000")


def curl(site, *more):
    """Ask for alice's lab by curl and return which HTTP it was, and the status."""
    where = ("--resolve", f"{LAB}:{site.secure}:127.0.0.1", "--cacert", site.authority.folder / "ca.pem")
    wanted = ("--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}")
    command = ["curl", *where, *wanted, *more, f"https://{LAB}:{site.secure}/alice/"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


async def test_http_2(site, labs):
    """HTTP/2 is spoken with who can, on old and new nginx, and not if it is switched off."""
    alice = await labs.start("alice")
    await site.serve(alice)
    assert await asyncio.to_thread(curl, site) == "2 200"
    assert await asyncio.to_thread(curl, site, "--http1.1") == "1.1 200"


async def test_http_2_switched_off(site, labs):
    """http2 = false leaves HTTP/1.1."""
    await site.serve(await labs.start("alice"), http2=False)
    assert await asyncio.to_thread(curl, site) == "1.1 200"


@pytest.mark.parametrize(
    ("version", "works"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
async def test_old_protocols_are_refused(small_site, version, works):
    """TLS 1.2 and 1.3 and nothing before."""
    await small_site.serve(instance("alice"))
    context = small_site.authority.trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
    if works:
        assert small_site.serial(LAB, context)
    else:
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            small_site.serial(LAB, context)


async def test_websockets_by_tls(small_site, labs):
    """A websocket passes, and the lab sees the Host that the browser's Origin names."""
    await small_site.serve(await labs.start("alice"))
    options = {"ca_certs": str(small_site.authority.folder / "ca.pem"), "server_hostname": LAB}

    def talk():
        open_socket = websocket.create_connection(
            f"wss://127.0.0.1:{small_site.secure}/alice/ws",
            host=f"{LAB}:{small_site.secure}",
            sslopt=options,
            timeout=20,
        )
        with closing(open_socket):
            open_socket.send("hello")
            return open_socket.recv()

    assert await asyncio.to_thread(talk) == f"alice {LAB}:{small_site.secure} hello"


async def test_ipv6(small_site, labs):
    """TLS on an IPv6 address, without any on IPv4."""
    port = free_port()
    await small_site.serve(await labs.start("alice"), listen=(f"[::1]:{port} ssl",))
    where = {"ssl": small_site.authority.trusting(), "server_hostname": LAB}
    async with aiohttp.request("GET", f"https://[::1]:{port}/alice/", headers={"Host": LAB}, **where) as answer:
        assert answer.status == 200


async def test_challenges_pass_by_plain_http(small_site, labs):
    """What an ACME client has put into its folder is served without TLS on every host, with a certificate or before."""
    root = small_site.server.folder / "acme"
    (root / ".well-known/acme-challenge").mkdir(parents=True)
    (root / ".well-known/acme-challenge/abc").write_text("abc.thumbprint")
    (root / "private").write_text("not for you")
    (root / ".well-known/acme-challenge/link").symlink_to(root / "private")
    alice, bob = await labs.start("alice"), await labs.start("bob", server_name=BOB)
    before = {"tls_certificate": "", "tls_certificate_key": "", "listen": (f"127.0.0.1:{small_site.server.port}",)}
    for more in (before, {}):
        await small_site.serve(alice, bob, acme_root=str(root), **more)
        if not more:
            await small_site.until_serial(LAB, serial_of(small_site.shared))
        for host in (LAB, BOB):
            status, _, body = await small_site.ask(host, "/.well-known/acme-challenge/abc", tls=False)
            assert (status, body) == (200, "abc.thumbprint")
            for path in ("/.well-known/acme-challenge/link", "/.well-known/acme-challenge/../../private"):
                assert "not for you" not in (await small_site.ask(host, path, tls=False))[2]


async def renewed(site, labs, rest):
    """Serve with a certificate as certbot lays it, renew it under a load of requests, and return what went wrong."""
    links = site.authority.live("lab", site.shared)
    tls = {"tls_certificate": links[0], "tls_certificate_key": links[1]}
    alice = await labs.start("alice")
    await site.serve(alice, **tls)
    assert not (await site.serve(alice, **tls)).changed
    new = site.authority.certificate(LAB)
    site.authority.lend()
    answers = []

    async def load():
        while True:
            answers.append((await site.ask(LAB, "/alice/"))[0])

    visitors = [asyncio.create_task(load()) for _ in range(4)]
    try:
        await rest(links, new)
        outcome = await site.serve(alice, **tls)
        await site.until_serial(LAB, serial_of(new))
        await asyncio.sleep(0.2)  # a little load on the new workers, too
        assert outcome.changed
        assert not any(visitor.done() for visitor in visitors)
    finally:
        for visitor in visitors:
            visitor.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*visitors)
    assert len(answers) > 20
    assert set(answers) == {200}


async def test_a_renewed_certificate_is_loaded(site, labs):
    """Once the links lead to a new certificate the same publish loads it, and no request fails."""

    async def swing(_, new):
        site.authority.live("lab", new)

    await renewed(site, labs, swing)


async def test_a_certificate_that_is_just_being_renewed(small_site, labs):
    """Between the new certificate and the new key the pair does not fit: that is waited for."""
    swung = []

    async def swing_slowly(links, new):
        Path(links[0]).unlink()
        Path(links[0]).symlink_to(new[0])

        def swing_the_key():
            Path(links[1]).unlink()
            Path(links[1]).symlink_to(new[1])
            swung.append(True)

        asyncio.get_running_loop().call_later(0.7, swing_the_key)

    await renewed(small_site, labs, swing_slowly)
    assert swung


async def test_a_certificate_that_cannot_be_used(small_site, labs, monkeypatch):
    """The error names the file and what is wrong with it; what was in force stays, and is tried again later."""
    monkeypatch.setattr("jlabd.nginx.surroundings.PATIENCE_S", 0.1)
    alice = await labs.start("alice")
    await small_site.serve(alice)
    wrong = configured(small_site.spec(tls_certificate_key=small_site.own[1]), alice)
    outcome = await small_site.publisher.publish(wrong)
    assert (outcome.ok, outcome.refused, small_site.publisher.needs_retry) == (False, True, True)
    assert outcome.error == f"TLS: {small_site.own[1]} is not the key of the certificate {small_site.shared[0]}."
    assert (await small_site.ask(LAB, "/alice/"))[0] == 200


async def test_the_first_start_with_a_broken_certificate(small_site, monkeypatch):
    """Before anything was published nginx finds at least an include that it accepts."""
    monkeypatch.setattr("jlabd.nginx.surroundings.PATIENCE_S", 0.0)
    wrong = small_site.spec(tls_certificate="/nowhere.crt", tls_certificate_key="/nowhere.key")
    outcome = await small_site.publisher.publish(configured(wrong, instance("alice")))
    assert "/nowhere.crt does not exist" in outcome.error
    assert (await small_site.server.run([*small_site.server.command, "-t"], 20)).status == 0


async def test_access_logs_without_tokens(small_site, labs):
    """Each host has a log, of paths, without anything that follows a question mark, be it in a line or in a Referer."""
    folder = small_site.server.own
    lost = instance("lost", UnixListen("/nonexistent/x.sock"))
    alice, bob = await labs.start("alice"), await labs.start("bob", server_name=BOB)
    await small_site.serve(alice, bob, lost, access_log_dir=str(folder))
    query = f"?token={SECRET}"
    referer = {"Referer": f"https://{LAB}/alice/lab{query}"}
    for host, path in ((LAB, "/alice/lab"), (LAB, "/lost/x"), (LAB, "/alice"), (LAB, "/nobody/"), (BOB, "/tree")):
        await small_site.ask(host, path + query, headers=referer)
        await small_site.ask(host, path + query, headers=referer, tls=False)
    shared = (folder / f"{LAB}.access.log").read_text()
    asked = [line.split('"')[1].split()[1] for line in shared.splitlines()]
    assert asked == ["/alice/lab", "/lost/x", "/alice", "/nobody/"]
    assert '"GET /tree HTTP/1.1" 200 ' in (folder / f"{BOB}.access.log").read_text()
    assert "tree" not in shared
    assert SECRET not in small_site.server.logs()
