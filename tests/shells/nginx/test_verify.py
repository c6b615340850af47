"""What nginx has in force is what it says itself: a signal sent is not a configuration loaded."""

import asyncio
import os
import shutil
import socket

import pytest
from rig.nginx import free_port

from jlabd.nginx import marks, verify
from jlabd.spec import NginxSpec
from tests.shells.nginx.servers import configured, instance, quick, running


async def test_what_nginx_cannot_load_is_taken_back(unprivileged, monkeypatch):
    """A port that somebody else has passes nginx's test: the error quotes nginx's log, and the old one is in force."""
    monkeypatch.setattr(verify, "LIVE_S", 4.0)
    publisher = quick(unprivileged.run)
    await running(unprivileged, publisher, instance("alice"))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        wanted = configured(unprivileged.spec(), instance("bob"), listen=(f"127.0.0.1:{unprivileged.port}", taken))
        outcome = await publisher.publish(wanted)
    assert (outcome.ok, outcome.changed, outcome.generation, outcome.refused) == (False, False, 1, True)
    assert f"bind() to {taken} failed (98: Address " in outcome.error
    assert f"4 s later it answers at 127.0.0.1:{unprivileged.port} with generation 1" in outcome.error
    assert os.listdir(unprivileged.config_dir / "live/locations") == ["alice.conf"]
    assert await publisher.trouble(configured(unprivileged.spec(), instance("alice"))) == ""
    assert publisher.needs_retry
    outcome = await publisher.publish(wanted)
    assert (outcome.ok, outcome.changed) == (True, True), outcome.error


async def test_a_reload_command_that_does_nothing_is_seen(unprivileged, monkeypatch):
    """It says that all went well, and nginx has heard nothing."""
    monkeypatch.setattr(verify, "LIVE_S", 0.5)
    publisher = quick(unprivileged.run)
    await running(unprivileged, publisher, instance("alice"))
    outcome = await publisher.publish(configured(unprivileged.spec(reload_command=("true",)), instance("bob")))
    assert outcome.refused
    assert "was told to load generation 2, but 0 s later it answers at" in outcome.error
    assert os.listdir(unprivileged.config_dir / "live/locations") == ["alice.conf"]


async def test_a_reload_command_that_fails_changes_nothing_while_nginx_runs(unprivileged):
    """The old generation is in force: so it stays in place."""
    publisher = quick(unprivileged.run)
    await running(unprivileged, publisher, instance("alice"))
    failing = unprivileged.spec(reload_command=("sh", "-c", "echo may not; false"))
    outcome = await publisher.publish(configured(failing, instance("bob")))
    assert outcome.refused
    assert "may not" in outcome.error
    assert os.listdir(unprivileged.config_dir / "live/locations") == ["alice.conf"]


async def test_counting_anew_does_not_deceive(unprivileged):
    """Somebody removes the folder: the new generation 1 is not taken for the one that nginx has loaded."""
    publisher = quick(unprivileged.run)
    await running(unprivileged, publisher, instance("alice"))
    shutil.rmtree(unprivileged.config_dir)
    outcome = await publisher.publish(configured(unprivileged.spec(), instance("bob")))
    assert (outcome.ok, outcome.changed, outcome.generation) == (True, True, 1)
    assert unprivileged.run.reloads == 1


async def test_a_missing_include_is_said_with_the_line_to_write(unprivileged):
    """nginx does not read jlabd's file: nothing is swapped or reloaded, and it is tried again when it does."""
    main = unprivileged.folder / "nginx.conf"
    with_include = main.read_text()
    line = f"include {unprivileged.config_dir}/jlabd.conf;"
    main.write_text(with_include.replace(line, ""))
    await unprivileged.start()
    publisher = quick(unprivileged.run)
    wanted = configured(unprivileged.spec(), instance("alice"))
    outcome = await publisher.publish(wanted)
    assert f"write `{line}` into the http {{ }} block" in outcome.error
    assert (outcome.refused, publisher.needs_retry, unprivileged.run.reloads) == (False, True, 0)
    main.write_text(with_include)
    assert (await publisher.publish(wanted)).ok


async def test_an_include_by_another_path_is_one_too(unprivileged):
    """The administrator's nginx has its files behind a link."""
    (unprivileged.folder / "elsewhere").symlink_to(".")
    main = unprivileged.folder / "nginx.conf"
    main.write_text(main.read_text().replace("jlabd.d/jlabd.conf", "elsewhere/jlabd.d/jlabd.conf"))
    publisher = quick(unprivileged.run)
    await running(unprivileged, publisher, instance("alice"))
    assert (await publisher.publish(configured(unprivileged.spec(), instance("bob")))).ok


async def test_what_the_administrator_broke_is_said_while_nginx_still_runs(unprivileged):
    """An nginx that could not start again is not in order, though it answers; the next look sees it mended."""
    publisher = quick(unprivileged.run)
    await running(unprivileged, publisher, instance("alice"))
    wanted = configured(unprivileged.spec(), instance("alice"))
    assert not publisher.foreign_changed(publisher.foreign_files())
    unprivileged.write_main(after="no_such_directive on;")
    assert publisher.foreign_changed(publisher.foreign_files())
    for _ in range(2):
        outcome = await publisher.publish(wanted)
        assert "could neither reload nor start again" in outcome.error
        assert 'unknown directive "no_such_directive"' in outcome.error
        assert not outcome.refused
    unprivileged.write_main()
    assert (await publisher.publish(wanted)).ok
    assert unprivileged.run.reloads == 0


async def test_reloads_keep_a_distance(unprivileged):
    """The first is at once, those asked for too soon after it become one; what changes nothing does not wait."""
    publisher = quick(unprivileged.run)
    await running(unprivileged, publisher, instance("alice"))
    publisher._floor_s = 3.0
    loop = asyncio.get_running_loop()
    assert (await publisher.publish(configured(unprivileged.spec(), instance("bob")))).changed
    assert (await publisher.publish(configured(unprivileged.spec(), instance("bob")))).ok
    earliest = publisher._earliest
    assert loop.time() < earliest
    names = ["carol", "dave", "erin"]
    outcomes = [asyncio.create_task(publisher.publish(configured(unprivileged.spec(), instance(n)))) for n in names]
    assert {(await each).generation for each in outcomes} == {3}
    assert loop.time() > earliest
    assert unprivileged.run.reloads == 2
    assert os.listdir(unprivileged.config_dir / "live/locations") == ["erin.conf"]


async def test_only_this_machine_is_told(server, http):
    """Who asks from another address hears what everybody hears who asks for a name that is not there."""
    await running(server, quick(server.run), instance("alice"))
    for source, status in (("127.0.0.1", 200), ("127.0.0.2", 421)):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(source, 0))
        writer.write(f"GET / HTTP/1.0\r\nHost: {marks.host(str(server.config_dir))}\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        assert answer.startswith(f"HTTP/1.1 {status} ")
        assert (marks.found(server.config_dir.joinpath("live/verify.conf").read_text()) in answer) is (status == 200)
    assert marks.host(str(server.config_dir)) not in server.logs()


@pytest.mark.parametrize("listen", ["{port}", "[::]:{port}", "[::1]:{port}", "localhost:{port}", "127.0.0.1:{port}"])
async def test_nginx_is_asked_where_it_listens(unprivileged, listen):
    """Any way to write an address leads there."""
    unprivileged.port = free_port()
    address = listen.format(port=unprivileged.port)
    outcome = await quick(unprivileged.run).publish(configured(unprivileged.spec(listen=(address,)), instance("alice")))
    await unprivileged.start()
    outcome = await quick(unprivileged.run).publish(configured(unprivileged.spec(listen=(address,)), instance("alice")))
    assert outcome.ok, outcome.error


@pytest.mark.parametrize("tls", [False, True])
async def test_an_address_behind_a_proxy_is_asked_as_the_proxy_would(unprivileged, tls, certificates):
    """A server of the administrator's makes nginx want the PROXY protocol there: noticed once, and when it ends."""
    address = f"127.0.0.1:{unprivileged.port}"
    paths = dict(zip(("tls_certificate", "tls_certificate_key"), certificates[0], strict=True))
    more = {"listen": (f"{address} ssl",), **paths} if tls else {}
    wanted = configured(unprivileged.spec(**more), instance("alice"))
    theirs = "ssl_certificate {}; ssl_certificate_key {};".format(*certificates[0]) if tls else ""
    unprivileged.write_main(before=f"server {{ listen {address} {'ssl' * tls} proxy_protocol; {theirs} }}")
    publisher = quick(unprivileged.run)
    await publisher.publish(wanted)
    await unprivileged.start()
    outcome = await publisher.publish(wanted)
    assert outcome.ok, outcome.error
    noise = unprivileged.logs().count("broken header")
    assert await publisher.trouble(wanted) == ""
    assert unprivileged.logs().count("broken header") == noise
    unprivileged.stop()
    unprivileged.write_main()
    await unprivileged.start()
    assert await publisher.trouble(wanted) == ""


@pytest.mark.parametrize(
    "said", [b"", b"\x00\xff" * 3000, b"HTTP/1.1 200 OK\r\n\r\n1 abc\n", b"HTTP/1.1 200 OK\r\n\r\n"]
)
async def test_whoever_else_answers_is_not_taken_for_nginx(said):
    """Another program on the port, whatever it says, is not in line; one that says nothing is told apart."""

    async def answer(reader, writer):
        await reader.read(100)
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        found = await verify.ask(NginxSpec(listen=(f"127.0.0.1:{port}",)))
    assert (found.mark, found.silent) == (None, False)
    assert str(port) in found.words


async def test_an_nginx_that_hangs_is_not_reloaded(unprivileged, monkeypatch):
    """It may be overloaded: a reload would only make that worse. It is reported, and well again when it answers."""
    monkeypatch.setattr(verify, "ANSWER_S", 0.3)
    publisher = quick(unprivileged.run)
    await running(unprivileged, publisher, instance("alice"))
    wanted = configured(unprivileged.spec(), instance("alice"))
    worker = int(next(iter(unprivileged.workers())))
    os.kill(worker, 19)
    try:
        assert "does not answer" in await publisher.trouble(wanted)
        outcome = await publisher.publish(wanted)
        assert "does not answer" in outcome.error
    finally:
        os.kill(worker, 18)
    assert unprivileged.run.reloads == 0
    assert (await publisher.publish(wanted)).ok
