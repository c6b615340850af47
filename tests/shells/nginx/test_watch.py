"""The front door's watch: whatever happens to nginx is noticed in time, said, and set right as soon as possible."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
from pathlib import Path

import pytest
from rig.certificates import Authority
from rig.nginx import free_port
from rig.waiting import eventually

from jlabd.daemon import front_door
from jlabd.daemon.front_door import FrontDoor
from jlabd.status.journal import Journal
from tests.shells.nginx.servers import configured, instance, quick, running


@pytest.fixture
async def watched(unprivileged, monkeypatch):
    """nginx in line with a configuration, and a front door that watches at short intervals."""
    for name, seconds in {"LOOK_S": 0.1, "SECOND_LOOK_S": 0.05, "WHOLE_LOOK_S": 0.5, "FIRST_RETRY_S": 0.2}.items():
        monkeypatch.setattr(front_door, name, seconds)
    await running(unprivileged, quick(unprivileged.run), instance("alice"))
    door = FrontDoor(Journal(), quick(unprivileged.run))
    assert (await door.publish(configured(unprivileged.spec(), instance("alice")))).ok
    watch = asyncio.create_task(door.watch())
    yield door
    watch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watch


async def until(condition, what):
    """Wait for it."""
    await eventually(condition, 15, what)


def said(door):
    """Return what the journal holds about nginx."""
    return [event["reason"] for event in door._journal.recent(100)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_an_nginx_that_ends_is_said_and_one_that_comes_back_is_seen(unprivileged, watched, how):
    """Stopped or killed: it is not well; started again by somebody it is, without a reload."""
    workers = unprivileged.workers()
    unprivileged.process.send_signal(how)
    unprivileged.process.wait()
    for worker in workers:  # they serve on when their master was killed, until somebody ends them
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(worker), signal.SIGKILL)
    await until(lambda: not watched.outcome.ok, "noticed")
    assert "is it running?" in watched.outcome.error
    unprivileged.run.calls.clear()
    reloads = watched.reloads
    (unprivileged.own / "nginx.pid").unlink(missing_ok=True)
    await unprivileged.start()
    await until(lambda: watched.outcome.ok, "seen")
    assert said(watched)[-1] == "nginx is in line again"
    assert len(said(watched)) <= 3
    await asyncio.sleep(0.3)
    assert watched.reloads - reloads <= 1


async def test_workers_without_a_master_are_said(unprivileged, watched):
    """They serve on when their master was killed, but nobody can make them load anything, nor start another nginx."""
    workers = unprivileged.workers()
    unprivileged.process.kill()
    unprivileged.process.wait()
    try:
        await until(lambda: "but its master process is gone: start it again" in watched.outcome.error, "noticed")
        assert unprivileged.run.reloads == 0
        refused = await watched.publish(configured(unprivileged.spec(), instance("bob")))
        assert refused.refused
        assert os.listdir(unprivileged.config_dir / "live/locations") == ["alice.conf"]
    finally:
        for worker in workers:
            os.kill(int(worker), signal.SIGKILL)


async def test_edits_by_hand_are_noticed_and_set_right(unprivileged, watched):
    """Whether nginx has read them or not."""
    snippet = unprivileged.config_dir / "live/locations/alice.conf"
    before = snippet.read_text()
    snippet.write_text("# mine now\n")
    await until(lambda: snippet.exists() and snippet.read_text() == before, "written again")
    await until(lambda: watched.outcome.ok and watched.outcome.changed, "loaded")
    shutil.rmtree(unprivileged.config_dir)
    await until(lambda: snippet.exists() and snippet.read_text() == before and watched.outcome.ok, "written again")


async def test_another_generation_loaded_by_hand_is_noticed(unprivileged, watched):
    """Somebody swings the link and reloads nginx: it is brought back."""
    empty = unprivileged.config_dir / "generations/77"
    empty.mkdir()
    (unprivileged.config_dir / "live").unlink()
    (unprivileged.config_dir / "live").symlink_to("generations/77")
    await unprivileged.run([*unprivileged.command, "-s", "reload"], 10)
    await until((unprivileged.config_dir / "live/locations").exists, "back")
    await until(lambda: watched.outcome.ok, "well")


async def test_a_broken_main_configuration_is_noticed(unprivileged, watched):
    """Not by asking nginx all the time: its test runs when one of its files has changed, and once for each retry."""
    unprivileged.run.calls.clear()
    await asyncio.sleep(0.6)
    assert unprivileged.run.calls == []
    unprivileged.write_main(after="no_such_directive on;")
    await until(lambda: not watched.outcome.ok, "noticed")
    assert "no_such_directive" in watched.outcome.error
    unprivileged.write_main()
    await until(lambda: watched.outcome.ok, "mended")
    assert unprivileged.run.reloads == 0


async def test_an_include_that_was_taken_out_is_noticed(unprivileged, watched):
    """Before nginx was reloaded, and after; once it is there again jlabd catches up by itself."""
    main = unprivileged.folder / "nginx.conf"
    whole = main.read_text()
    main.write_text(whole.replace(f"include {unprivileged.config_dir}/jlabd.conf;", ""))
    await until(lambda: "does not include" in watched.outcome.error, "noticed")
    await unprivileged.run([*unprivileged.command, "-s", "reload"], 10)
    wanted = configured(unprivileged.spec(), instance("alice"))
    async with asyncio.timeout(10):
        while not await watched._publisher.trouble(wanted):  # noqa: ASYNC110  (another program, without an event)
            await asyncio.sleep(0.02)
    assert not watched.outcome.ok
    main.write_text(whole)
    async with asyncio.timeout(15):
        while not watched.outcome.ok or await watched._publisher.trouble(wanted):  # noqa: ASYNC110  (as above)
            await asyncio.sleep(0.02)


async def test_what_was_refused_is_tried_again(unprivileged, watched):
    """The same configuration is accepted once what it needs is there: nobody has to ask for it again."""
    unprivileged.write_main(before="no_such_directive on;")
    outcome = await watched.publish(configured(unprivileged.spec(), instance("bob")))
    assert outcome.refused
    assert not watched.last_load_ok
    unprivileged.write_main()
    await until(lambda: watched.outcome.ok, "tried again")
    assert os.listdir(unprivileged.config_dir / "live/locations") == ["bob.conf"]
    assert watched.last_load_ok


async def test_a_refusal_that_was_taken_back_still_counts(unprivileged, watched):
    """nginx is in line with the old configuration, but the last change was refused: monitoring is to see that."""
    unprivileged.write_main(before="no_such_directive on;")
    assert (await watched.publish(configured(unprivileged.spec(), instance("bob")))).refused
    unprivileged.write_main()
    await watched.take_back_to(configured(unprivileged.spec(), instance("alice")))
    assert (watched.outcome.ok, watched.last_load_ok) == (True, False)
    assert (await watched.publish(configured(unprivileged.spec(), instance("alice")))).ok
    assert watched.last_load_ok


async def test_a_renewed_certificate_is_published_without_an_edit(unprivileged, watched):
    """What is rendered depends on more than the file: it is compared as a whole from time to time."""
    authority = Authority(unprivileged.folder / "ca")
    links = authority.live("lab", authority.certificate("lab.example.com"))
    address = f"127.0.0.1:{free_port()}"
    tls = {"tls_certificate": links[0], "tls_certificate_key": links[1], "listen": (f"{address} ssl",)}
    authority.lend()
    assert (await watched.publish(configured(unprivileged.spec(**tls), instance("alice")))).ok
    renewed = authority.certificate("lab.example.com")
    authority.lend()
    authority.live("lab", renewed)
    generation = watched.outcome.generation
    await until(lambda: watched.outcome.generation > generation, "published")
    assert watched.outcome.ok
    assert (
        hashlib.sha256(Path(renewed[0]).read_bytes()).hexdigest()
        in (unprivileged.config_dir / "live/main.conf").read_text()
    )
