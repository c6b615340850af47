"""Through the real nginx: what reaches a lab, what it is told, and what never gets there."""

import asyncio
import json
import os
import socket
from dataclasses import replace

import pytest
import websocket
from rig.nginx import free_port

from jlabd.spec import RouteSpec, UnixListen
from tests.shells.nginx.servers import configured, instance

LAB = "lab.example.com"


@pytest.fixture
async def routed(server, publisher, labs):
    """alice and dave (on a port) under paths, bob on his own host; nginx is up and serves them."""
    instances = [
        await labs.start("alice", route=RouteSpec(client_max_body_size=2 * 2**20, read_timeout_s=60)),
        await labs.start("bob", server_name="bob.example.com"),
        await labs.start("dave", port=free_port()),
    ]
    outcome = await publisher.publish(configured(server.spec(), *instances))
    assert "could not be told" in outcome.error  # it is not running yet, and tested all the same
    await server.start()
    assert (await publisher.publish(configured(server.spec(), *instances))).ok
    return server


@pytest.fixture
def ask(routed, http):
    """Ask nginx under a host name with its port, and return status, headers and body."""

    async def _ask(host, path, method="GET", **more):
        headers = {"Host": f"{host}:{routed.port}", **more.pop("headers", {})}
        url = f"http://127.0.0.1:{routed.port}{path}"
        async with http.request(method, url, headers=headers, allow_redirects=False, **more) as answer:
            body = await answer.read()
            return answer.status, answer.headers, body

    return _ask


async def told(ask, host, path, **more):
    """Return what the lab was told, as JSON."""
    status, _, body = await ask(host, path, **more)
    assert status == 200, body
    return json.loads(body)


@pytest.mark.parametrize(
    ("host", "path", "name"),
    [
        (LAB, "/alice/lab", "alice"),
        (LAB, "/alice/", "alice"),
        (LAB.upper(), "/alice/", "alice"),
        (LAB, "/dave/api", "dave"),
        ("bob.example.com", "/", "bob"),
        ("bob.example.com", "/alice/", "bob"),
    ],
)
async def test_paths_and_hosts_lead_to_their_lab(ask, host, path, name):
    """On the shared host the path decides, on an own host the host alone; the path arrives as it was sent."""
    answer = await told(ask, host, path)
    assert (answer["name"], answer["target"]) == (name, path)


async def test_a_path_arrives_as_it_was_sent(routed):
    """Escapes, doubled slashes and the query are not touched."""
    path = "/alice/files/a%20b%2Fc%3F//x.txt?token=a%2Bb&x=%C3%A4"
    reader, writer = await asyncio.open_connection("127.0.0.1", routed.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {LAB}\r\nConnection: close\r\n\r\n".encode())
    assert f'"target": "{path}"'.encode() in await reader.read()
    writer.close()


@pytest.mark.parametrize("path", ["/", "/alicex/", "/alice2", "/bob/", "/nobody/", "/alice/../nobody/"])
async def test_other_paths_of_the_shared_host_lead_nowhere(ask, path):
    """Only whole components count, and the answer lists nobody."""
    status, _, body = await ask(LAB, path)
    assert status == 404
    assert b"alice" not in body


@pytest.mark.parametrize(
    "host", ["evil.example.com", "127.0.0.1", "localhost", "unknown.jlabd.invalid", "xlab.example.com", "_"]
)
async def test_an_unknown_host_reaches_no_lab(ask, host):
    """A name that is not ours gets 421 and a short text, whatever the path."""
    for path in ("/", "/alice/lab"):
        status, _, body = await ask(host, path)
        assert (status, body) == (421, b"No such host here.\n")


async def test_a_request_without_a_host_reaches_no_lab(routed):
    """HTTP/1.0 without a Host header is as unknown as a wrong one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", routed.port)
    writer.write(b"GET /alice/lab HTTP/1.0\r\n\r\n")
    assert b" 421 " in await reader.readline()
    writer.close()


async def test_the_host_header_cannot_be_forged_beside_the_address(routed):
    """The lab is told the name that nginx matched, not what a client writes into Host beside an absolute address."""
    reader, writer = await asyncio.open_connection("127.0.0.1", routed.port)
    writer.write(
        f"GET http://{LAB}/alice/ HTTP/1.1\r\nHost: evil.example.com:80x\r\nConnection: close\r\n\r\n".encode()
    )
    answer = (await reader.read()).decode()
    writer.close()
    assert "evil" not in answer
    assert f'"Host": "{LAB}"' in answer or " 400 " in answer


async def test_the_lab_is_told_who_asks_and_how(ask, routed):
    """Host with the browser's port; address, protocol and host of the client; nothing that the client made up."""
    forged = {
        "X-Scheme": "https",
        "X-Forwarded-Proto": "https",
        "X-Real-IP": "1.2.3.4",
        "Forwarded": "for=x",
        "Proxy": "x",
    }
    headers = (await told(ask, LAB, "/alice/", headers=forged))["headers"]
    assert headers["Host"] == headers["X-Forwarded-Host"] == f"{LAB}:{routed.port}"
    assert headers["X-Real-IP"] == headers["X-Forwarded-For"] == "127.0.0.1"
    assert headers["X-Forwarded-Proto"] == headers["X-Scheme"] == "http"
    assert "Forwarded" not in headers
    assert "Proxy" not in headers


@pytest.mark.parametrize("query", ["", "?token=abc%20d"])
async def test_the_bare_name_redirects_and_keeps_the_port(ask, query):
    """/alice leads to /alice/ by a relative redirect, so that the port of the browser stays."""
    status, headers, _ = await ask(LAB, f"/alice{query}")
    assert (status, headers["Location"]) == (302, f"/alice/{query}")


async def test_websockets_pass(routed):
    """An upgrade reaches the lab with the Host and port of the browser, on the shared and on an own host."""

    def talk(host, path):
        client = websocket.create_connection(
            f"ws://127.0.0.1:{routed.port}{path}", host=f"{host}:{routed.port}", suppress_origin=True, timeout=20
        )
        client.send("hello")
        answer = client.recv()
        client.close()
        return answer

    for host, path, name in ((LAB, "/alice/ws", "alice"), ("bob.example.com", "/ws", "bob"), (LAB, "/dave/ws", "dave")):
        assert await asyncio.to_thread(talk, host, path) == f"{name} {host}:{routed.port} hello"


async def test_no_other_upgrade_passes(ask):
    """h2c and the like do not reach the lab: what follows such an upgrade, nginx could not see."""
    headers = (await told(ask, LAB, "/alice/", headers={"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings"}))[
        "headers"
    ]
    assert "Upgrade" not in headers
    assert headers["Connection"] == "close"


@pytest.mark.parametrize("place", ["/bob/", "@jlabd_again.bob"])
async def test_a_lab_cannot_send_a_request_elsewhere_within_nginx(server, publisher, labs, http, place):
    """X-Accel-Redirect of a hostile lab does not hand a visitor's request to another lab."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nX-Accel-Redirect: {place}\r\nContent-Length: 3\r\n\r\nown".encode())
        writer.close()

    path = str(server.folder / "hostile.sock")
    async with await asyncio.start_unix_server(answer, path):
        os.chmod(path, 0o666)
        await _up(server, publisher, await labs.start("bob"), instance("alice", UnixListen(path)))
        assert await _get(server, http, LAB) == (200, "own")


async def test_bodies_pass_up_to_the_limit(ask):
    """A body as large as client_max_body_size arrives whole, one byte more is 413; the default is far above 1 MB."""
    limit = 2 * 2**20
    assert (await told(ask, LAB, "/alice/", method="PUT", data=b"x" * limit))["length"] == limit
    assert (await ask(LAB, "/alice/", method="PUT", data=b"x" * (limit + 1)))[0] == 413
    assert (await told(ask, "bob.example.com", "/", method="PUT", data=b"x" * (8 * limit)))["length"] == 8 * limit


async def test_answers_are_streamed(routed, labs, http):
    """What a lab sends arrives at once, not when the answer is complete."""
    async with http.get(f"http://127.0.0.1:{routed.port}/alice/stream", headers={"Host": LAB}) as answer:
        assert await asyncio.wait_for(answer.content.readline(), 5) == b"first\n"
        labs.go_on.set()
        assert await answer.content.readline() == b"second\n"


async def test_no_query_string_is_in_any_log(ask, routed, labs):
    """Login links carry a token: neither the access log nor, when a lab is gone, the error log shows it."""
    for host, path in (
        (LAB, "/alice/"),
        (LAB, "/alice"),
        ("bob.example.com", "/"),
        ("evil.example.com", "/alice/"),
        (LAB, "/"),
    ):
        await ask(host, f"{path}?token=s3cret", headers={"Referer": f"http://{LAB}/?token=s3cret"})
    await ask(LAB, "/alice/?token=s3cret", method="PUT", data=b"x" * (3 * 2**20))
    await labs.stop()
    status, headers, body = await ask(LAB, "/alice/?token=s3cret")
    assert status == 503
    assert headers["Retry-After"] == "5"
    assert headers["Cache-Control"] == "no-store"
    assert b"jlabd" in body
    routed.stop()
    assert "s3cret" not in routed.logs()
    assert "exiting" in routed.logs()  # they are the logs, and nginx wrote them


async def test_the_full_backlog_of_a_lab_is_an_orderly_503(routed, http, folder):
    """When a lab accepts nothing and its backlog is full, nginx says so and when to come back, not 502."""
    (folder / "dave.sock").unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    (folder / "alice.sock").unlink()
    listener.bind(str(folder / "alice.sock"))
    (folder / "alice.sock").chmod(0o666)
    listener.listen(0)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(str(folder / "alice.sock"))
    async with http.get(f"http://127.0.0.1:{routed.port}/alice/", headers={"Host": LAB}) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    waiting.close()
    listener.close()


async def test_the_administrators_own_default_server_stays(server, publisher, labs, http):
    """With a default_server of the administrator's on the same port, unknown names are hers; no lab is reached."""
    server.write_main(after=f"server {{ listen 127.0.0.1:{server.port} default_server; return 200 'hers'; }}")
    await _up(server, publisher, await labs.start("alice"))
    assert await _get(server, http, "evil.example.com") == (200, "hers")
    assert (await _get(server, http, LAB))[0] == 200


async def test_a_plain_server_of_the_administrators_may_share_the_port(server, publisher, labs, http):
    """A stock `listen 80; server_name _;` after the include is no conflict; unknown names get 421."""
    server.write_main(after=f"server {{ listen 127.0.0.1:{server.port}; server_name _ www.org; return 200 'hers'; }}")
    await _up(server, publisher, await labs.start("alice"))
    assert (await _get(server, http, "evil.example.com"))[0] == 421
    assert await _get(server, http, "www.org") == (200, "hers")


async def test_a_plain_server_before_the_include_takes_the_unknown_names(server, publisher, labs, http):
    """A site of the administrator's that comes first keeps being the default of its port."""
    server.write_main(before=f"server {{ listen 127.0.0.1:{server.port}; server_name www.org; return 200 'hers'; }}")
    await _up(server, publisher, await labs.start("alice"))
    assert await _get(server, http, "evil.example.com") == (200, "hers")


async def test_several_addresses_and_ipv6_serve_the_same(server, publisher, labs, http):
    """Each address of nginx.listen serves each instance, also under a bracketed IPv6 name."""
    other = free_port()
    listen = (f"127.0.0.1:{server.port}", f"127.0.0.1:{other}", f"[::1]:{other}")
    alice = await labs.start("alice")
    spec = server.spec(listen=listen, server_names=(LAB, "[::1]"))
    await publisher.publish(configured(spec, alice))
    await server.start()
    for url, host in ((f"http://127.0.0.1:{other}/alice/", LAB), (f"http://[::1]:{other}/alice/", f"[::1]:{other}")):
        async with http.get(url, headers={"Host": host}) as answer:
            assert (await answer.json())["headers"]["Host"] == host


async def test_a_base_url_on_an_own_host_is_found_from_its_root(server, publisher, labs, http):
    """An own host with a base_url redirects there from /, and has nothing else."""
    bob = replace(await labs.start("bob", server_name="bob.example.com"), base_url="/x/y/")
    await _up(server, publisher, bob)
    assert await _get(server, http, "bob.example.com", "/") == (302, "/x/y/")
    assert await _get(server, http, "bob.example.com", "/x/y") == (302, "/x/y/")
    assert (await _get(server, http, "bob.example.com", "/x/y/api"))[0] == 200
    assert (await _get(server, http, "bob.example.com", "/x/"))[0] == 404


async def _up(server, publisher, *instances):
    """Publish, start nginx, and see that the test of the configuration says no word of warning."""
    await publisher.publish(configured(server.spec(), *instances))
    await server.start()
    assert "[warn]" not in (await server.run([*server.command, "-t"], 20)).output


async def _get(server, http, host, path="/alice/"):
    """Return status, and the redirect or text."""
    url = f"http://127.0.0.1:{server.port}{path}"
    async with http.get(url, headers={"Host": host}, allow_redirects=False) as answer:
        return answer.status, answer.headers.get("Location") or await answer.text()
