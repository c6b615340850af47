"""Publishing: tested by the real nginx, swapped in one step, never half done, never forgotten."""

import asyncio
import errno
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from jlabd.spec import RouteSpec
from tests.shells.nginx.servers import configured, instance, quick, running, tree

LAB = "lab.example.com"
REFUSED = RouteSpec(extra="no_such_directive on;")


@pytest.fixture
def publisher(unprivileged):
    """A publisher for the nginx that needs no root; `server` is either."""
    return quick(unprivileged.run)


async def status(server, http, host, path):
    """Return the status of a GET."""
    async with http.get(f"http://127.0.0.1:{server.port}{path}", headers={"Host": host}) as answer:
        return answer.status


async def eventually(server, http, wanted, *where):
    """Wait until nginx's new workers answer `wanted`: a reload takes a moment."""
    async with asyncio.timeout(20):
        while await status(server, http, *where) != wanted:  # noqa: ASYNC110  (another program, without an event)
            await asyncio.sleep(0.02)


async def test_a_new_instance_is_reached_after_a_publish(server, labs, http):
    """A publish tests and reloads, and the running nginx serves the new instance; one old generation is kept."""
    publisher = quick(server.run)
    alice, bob = await labs.start("alice"), await labs.start("bob")
    await running(server, publisher, alice)
    assert await status(server, http, LAB, "/bob/") == 404
    outcome = await publisher.publish(configured(server.spec(), alice, bob))
    assert (outcome.ok, outcome.changed, outcome.generation, outcome.error) == (True, True, 2, "")
    assert server.run.reloads == 1
    assert await status(server, http, LAB, "/bob/") == 200
    assert sorted(os.listdir(server.config_dir / "generations")) == ["1", "2"]
    await publisher.publish(configured(server.spec(), bob))
    assert sorted(os.listdir(server.config_dir / "generations")) == ["2", "3"]
    assert await status(server, http, LAB, "/alice/") == 404


async def test_equal_content_runs_nothing(server, labs):
    """What is in force already is not loaded again, also by a daemon that has just started, which looks once."""
    alice = await labs.start("alice")
    generation = await running(server, quick(server.run), alice)
    workers, before = server.workers(), tree(server.config_dir)
    publisher = quick(server.run)
    for calls in (["-T"], []):
        outcome = await publisher.publish(configured(server.spec(), alice))
        assert (outcome.ok, outcome.changed, outcome.generation) == (True, False, generation)
        assert server.run.calls == calls
        server.run.calls.clear()
    assert server.workers() == workers
    assert tree(server.config_dir) == before


async def test_a_refused_candidate_changes_nothing(server, labs, http):
    """nginx says no: the disk is as before, nothing is loaded, the old serves on, and nginx's words are given."""
    publisher = quick(server.run)
    alice = await labs.start("alice")
    await running(server, publisher, alice)
    workers, before = server.workers(), tree(server.config_dir)
    wanted = configured(server.spec(), replace(alice, route=REFUSED))
    outcome = await publisher.publish(wanted)
    assert (outcome.ok, outcome.changed, outcome.generation) == (False, False, 1)
    assert "nginx does not accept the configuration, so nothing was changed" in outcome.error
    assert 'unknown directive "no_such_directive"' in outcome.error
    assert "live/extra/alice.conf:1" in outcome.error
    assert "[emerg]" in outcome.error
    assert publisher.needs_retry
    assert server.run.reloads == 0
    assert tree(server.config_dir) == before
    assert server.workers() == workers
    assert await status(server, http, LAB, "/alice/") == 200
    back = await publisher.publish(configured(server.spec(), alice))
    assert (back.ok, back.changed, publisher.needs_retry) == (True, False, False)


async def test_the_first_candidate_refused_leaves_an_empty_place(server):
    """Before the first good generation, a refused one leaves an include that nginx accepts."""
    publisher = quick(server.run)
    wanted = configured(server.spec(), instance("alice", route=REFUSED))
    outcome = await publisher.publish(wanted)
    assert (outcome.ok, outcome.generation) == (False, None)
    assert sorted(os.listdir(server.config_dir)) == ["generations", "jlabd.conf", "live"]
    assert os.listdir(server.config_dir / "generations") == ["0"]
    assert os.listdir(server.config_dir / "live/") == []
    assert (await server.run([*server.command, "-t"], 20)).status == 0


async def test_a_refusal_that_is_not_our_fault_passes(unprivileged, publisher):
    """When the administrator's own part is broken the error quotes it; once it is mended the same publish succeeds."""
    alice = configured(unprivileged.spec(), instance("alice"))
    await running(unprivileged, publisher, instance("bob"))
    unprivileged.write_main(after="no_such_directive on;")
    outcome = await publisher.publish(alice)
    assert "no_such_directive" in outcome.error
    unprivileged.write_main()
    outcome = await publisher.publish(alice)
    assert (outcome.ok, outcome.changed) == (True, True)


async def test_a_failed_reload_is_not_forgotten(unprivileged, publisher):
    """nginx does not run: the generation is tested and in place for the next nginx, which then need not reload."""
    wanted = configured(unprivileged.spec(), instance("alice"))
    outcome = await publisher.publish(wanted)
    assert not outcome.ok
    assert "is it running?" in outcome.error
    assert publisher.needs_retry
    assert (unprivileged.config_dir / "live").readlink() == Path("generations/1")
    await unprivileged.start()
    for again in (publisher, quick(unprivileged.run)):
        unprivileged.run.calls.clear()
        outcome = await again.publish(wanted)
        assert outcome.ok
        assert not again.needs_retry
        assert outcome.generation == 1
        assert unprivileged.run.reloads == 0


async def test_a_missing_nginx_is_said_clearly(unprivileged, publisher):
    """Without the program the sentence says the fix, and nothing stays behind that nginx would read later untested."""
    wanted = configured(unprivileged.spec(test_command=("/nowhere/nginx", "-t")), instance("alice"))
    outcome = await publisher.publish(wanted)
    assert "The program /nowhere/nginx does not exist" in outcome.error
    assert "Install nginx, or set nginx.enabled = false." in outcome.error
    assert publisher.needs_retry
    assert os.listdir(unprivileged.config_dir / "live/") == []


async def test_a_machine_without_nginx_folders_is_said_clearly(unprivileged, publisher):
    """The parent of config_dir is nginx's: it is not made, but asked for; with nothing to publish it is not missed."""
    nginx = unprivileged.spec(config_dir=str(unprivileged.folder / "etc/nginx/jlabd.d"))
    outcome = await publisher.publish(configured(nginx, instance("alice")))
    assert "There is no folder" in outcome.error
    assert (await publisher.publish(configured(nginx))).ok
    assert not (unprivileged.folder / "etc").exists()


async def test_nothing_to_publish_still_gives_the_file_to_include(unprivileged, publisher):
    """nginx.conf may include jlabd.conf before there is an instance; and the last instance may go again."""
    outcome = await publisher.publish(configured(unprivileged.spec()))
    assert (outcome.ok, outcome.changed, outcome.generation) == (True, False, None)
    assert unprivileged.run.calls == []
    await running(unprivileged, publisher, instance("alice"))
    outcome = await publisher.publish(configured(unprivileged.spec()))
    assert (outcome.ok, outcome.changed) == (True, True)
    assert os.listdir(unprivileged.config_dir / "live/") == []


async def test_a_hostile_value_reaches_no_disk(unprivileged, publisher):
    """What render refuses is an error without a retry, and not a byte is written."""
    bad = instance("alice", base_url="/a/; } http { /")
    outcome = await publisher.publish(configured(unprivileged.spec(), bad))
    assert "Instance alice: base_url" in outcome.error
    assert not publisher.needs_retry
    assert not unprivileged.config_dir.exists()


async def test_everybody_may_read_and_only_the_owner_write(unprivileged, publisher):
    """Files are 0644 and folders 0755 whatever the umask: there is no secret in them."""
    old = os.umask(0o077)
    try:
        await publisher.publish(configured(unprivileged.spec(), instance("alice")))
    finally:
        os.umask(old)
    for path in unprivileged.config_dir.rglob("*"):
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)
    assert stat.S_IMODE(unprivileged.config_dir.stat().st_mode) == 0o755


@pytest.mark.parametrize("how", ["symlink", "group", "others", "file"])
async def test_an_unsafe_folder_is_refused(unprivileged, publisher, how):
    """A folder that others can write, or that leads elsewhere, is not used and not changed."""
    elsewhere = unprivileged.folder / "elsewhere"
    elsewhere.mkdir()
    if how == "symlink":
        unprivileged.config_dir.symlink_to(elsewhere)
    elif how == "file":
        unprivileged.config_dir.write_text("mine")
    else:
        unprivileged.config_dir.mkdir()
        unprivileged.config_dir.chmod(0o775 if how == "group" else 0o757)
    outcome = await publisher.publish(configured(unprivileged.spec(), instance("alice")))
    assert not outcome.ok
    assert ("written by others" if how in {"group", "others"} else "not a folder") in outcome.error
    assert os.listdir(elsewhere) == []
    assert unprivileged.run.calls == []


@pytest.mark.root
async def test_a_folder_of_another_user_is_refused(unprivileged, publisher):
    """Its owner could change what nginx reads as root."""
    unprivileged.config_dir.mkdir(mode=0o755)
    os.chown(unprivileged.config_dir, 12345, 12345)
    outcome = await publisher.publish(configured(unprivileged.spec(), instance("alice")))
    assert "written by others" in outcome.error


FAULTS = ["mkdir", "open", "fsync", "symlink_to", "rename", "fchmod"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_full_disk_at_any_step_leaves_the_old_in_force(unprivileged, labs, http, monkeypatch, fault):
    """Whichever call fails, and however late, `live` stays whole, nginx accepts it, no candidate is left behind."""
    publisher = quick(unprivileged.run)
    alice = await labs.start("alice")
    await running(unprivileged, publisher, alice)
    wanted = configured(unprivileged.spec(), alice, instance("bob"))
    at = 0
    while True:
        at += 1
        with monkeypatch.context() as patch:
            calls = _failing_at(patch, fault, at)
            outcome = await publisher.publish(wanted)
        if len(calls) < at:
            break
        assert not outcome.ok
        assert "No space left on device" in outcome.error
        assert publisher.needs_retry
        live = (unprivileged.config_dir / "live/").resolve(strict=True)
        assert (live / "locations/alice.conf").exists()
        assert (await unprivileged.run([*unprivileged.command, "-t"], 20)).status == 0
        assert len(os.listdir(unprivileged.config_dir / "generations")) <= 2
        await publisher.publish(configured(unprivileged.spec(), alice))
    assert at > 1
    assert outcome.ok
    await eventually(unprivileged, http, 200, LAB, "/alice/")


def _failing_at(patch, fault, at):
    """Let the `at`-th call of `fault` fail as on a full disk; return the list of its calls."""
    owner = os if fault in {"fsync", "fchmod"} else Path
    real, calls = getattr(owner, fault), []

    def failing(*args, **kwargs):
        if fault == "open" and "x" not in args:  # a full disk can still be read
            return real(*args, **kwargs)
        calls.append(args)
        if len(calls) == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))
        return real(*args, **kwargs)

    patch.setattr(owner, fault, failing)
    return calls


async def test_edits_by_hand_are_set_right(unprivileged, publisher):
    """The folder is jlabd's: what somebody changed or removed is noticed, written again, and loaded if need be."""
    await running(unprivileged, publisher, instance("alice"))
    wanted = configured(unprivileged.spec(), instance("alice"))
    snippet = unprivileged.config_dir / "live/locations/alice.conf"
    before = snippet.read_text()
    for harm, reloaded in (
        (lambda: snippet.write_bytes(b"\xff\xfe"), True),
        (snippet.unlink, True),
        (lambda: (snippet.parent / "more.conf").write_text(""), True),
        ((unprivileged.config_dir / "jlabd.conf").unlink, True),
        ((unprivileged.config_dir / "live").unlink, False),
    ):
        assert await publisher.trouble(wanted) == ""
        harm()
        assert "Somebody else has changed files" in await publisher.trouble(wanted)
        outcome = await publisher.publish(wanted)
        assert (outcome.ok, outcome.changed) == (True, reloaded)
        assert snippet.read_text() == before
        assert os.listdir(snippet.parent) == ["alice.conf"]


async def test_the_preview_shows_the_difference_and_does_nothing(unprivileged, publisher):
    """A unified diff of live and candidate, before there is anything, and later; empty when nothing changes."""
    alice = instance("alice")
    assert "+++ new/locations/alice.conf" in await publisher.preview(configured(unprivileged.spec(), alice))
    assert not unprivileged.config_dir.exists()
    await running(unprivileged, publisher, alice)
    before = tree(unprivileged.config_dir)
    assert await publisher.preview(configured(unprivileged.spec(), alice)) == ""
    changed = replace(alice, route=replace(alice.route, client_max_body_size=5))
    diff = await publisher.preview(configured(unprivileged.spec(), changed))
    assert "-    client_max_body_size 104857600;\n+    client_max_body_size 5;\n" in diff
    assert "main.conf" not in diff
    assert tree(unprivileged.config_dir) == before


@pytest.mark.parametrize("own_hosts", [False, True])
async def test_three_hundred_instances_are_published_quickly(server, own_hosts, record_property):
    """300 instances, by path and by host: written, tested and loaded within seconds, the daemon awake all the while."""
    publisher = quick(server.run)
    names = {f"lab{n}": {"server_name": f"lab{n}.example.com"} if own_hosts else {} for n in range(300)}
    await running(server, publisher, instance("first"))
    longest = asyncio.create_task(_longest_pause())
    begun = time.perf_counter()
    outcome = await publisher.publish(configured(server.spec(), *(instance(n, **more) for n, more in names.items())))
    took = time.perf_counter() - begun
    longest.cancel()
    pause = await longest
    record_property("seconds", took)
    record_property("longest_pause", pause)
    print(f"300 instances: {took:.2f} s, longest pause {pause:.3f} s")
    assert outcome.ok, outcome.error
    assert took < 15
    assert pause < 1


async def _longest_pause():
    """Return, when cancelled, for how long the event loop did nothing else at most."""
    longest = 0.0
    try:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - begun)
    except asyncio.CancelledError:
        return longest
