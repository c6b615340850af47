"""The trial of a candidate: a running nginx cannot read it before it is accepted, wherever the test command runs."""

import asyncio
import ctypes
import os
import pickle
import sys
import traceback

import pytest

from jlabd.nginx import verify
from jlabd.processes.command import run
from tests.shells.nginx.servers import configured, instance, quick, running

BROKEN = {"tls_certificate": "/nowhere.crt", "tls_certificate_key": "/nowhere.key"}
PR_SET_DUMPABLE = 4


@pytest.fixture(autouse=True)
async def _somebody_may_have_a_view(folder):
    """Skip, loudly, where neither root nor an ordinary user may."""
    (folder / "what").mkdir()
    (folder / "where").mkdir()
    if (await run(["true"], 10, view=(str(folder / "what"), str(folder / "where")))).without_view:
        pytest.skip("NO MOUNT NAMESPACES HERE: run `make test` where root, or users, may make them")


def script_tests(server, script):
    """Return [nginx] with a script that tests; its arguments are what would test without it."""
    return server.spec(test_command=("sh", "-c", script, "sh", *server.command, "-t"))


@pytest.mark.parametrize("views", [True, False])
async def test_an_nginx_that_is_reloaded_during_the_trial_does_not_see_the_candidate(server, views):
    """Somebody reloads nginx meanwhile: it goes on with the old one. Where nobody may have a view it reads the new."""
    publisher = quick(server.run)
    await running(server, publisher, instance("alice"))
    old = (await verify.ask(server.spec())).mark
    server.run.views = views
    children = f"/proc/{server.process.pid}/task/{server.process.pid}/children"
    script = f"""
        before=" $(cat {children}) "; kill -HUP {server.process.pid}
        while true; do
            for child in $(cat {children}); do  # one that leaves says nothing: an earlier reload's may just be going
                case "$before" in *" $child "*) ;; *) echo no; exit 1 ;; esac
            done
            sleep 0.01
        done
    """
    outcome = await publisher.publish(configured(script_tests(server, script), instance("bob")))
    assert outcome.refused
    assert os.listdir(server.config_dir / "live/locations") == ["alice.conf"]
    if views:
        assert await verify.until_live(server.spec(), old) is None
    else:
        async with asyncio.timeout(20):
            while (candidate := (await verify.ask(server.spec())).mark) == old:  # noqa: ASYNC110  (another program)
                await asyncio.sleep(0.02)
        assert await verify.until_live(server.spec(), candidate) is None
        assert (await publisher.publish(configured(server.spec(), instance("alice")))).ok
        assert (await verify.ask(server.spec())).mark == old


async def test_whether_the_view_is_seen_is_asked_once(server):
    """The first candidate is followed by one that nginx must refuse; after that, what it accepts is believed."""
    publisher = quick(server.run)
    await publisher.publish(configured(server.spec(), instance("alice")))
    await server.start()
    assert server.run.calls == ["-t*", "-t*", "-T", "reload"]
    server.run.calls.clear()
    assert (await publisher.publish(configured(server.spec(), instance("bob")))).ok
    assert server.run.calls == ["-t*", "-T", "reload"]


@pytest.mark.root
async def test_a_test_elsewhere_is_not_taken_for_one(server):
    """A command that tests where the candidate cannot be seen accepts it blindly: so it is tested in place as well."""
    publisher = quick(server.run)
    await running(server, publisher, instance("alice"))
    elsewhere = f'exec nsenter --mount=/proc/{os.getpid()}/ns/mnt "$@"'
    outcome = await publisher.publish(configured(script_tests(server, elsewhere), instance("bob")))
    assert outcome.ok, outcome.error
    assert server.run.calls == ["-t*", "-t*", "-T", "-t", "reload"]
    bad = script_tests(server, elsewhere)
    outcome = await publisher.publish(configured(bad, instance("carol"), **BROKEN))
    assert outcome.refused
    assert "/nowhere.crt" in outcome.error
    assert os.listdir(server.config_dir / "live/locations") == ["bob.conf"]


def as_ordinary_user(server, work):
    """Return what the coroutine function `work` returns in a process of the user whose nginx `server` is."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if server.user is not None:
                os.chown(server.folder, server.user, server.user)
                os.setgroups([])
                os.setresgid(*[server.user] * 3)
                os.setresuid(*[server.user] * 3)
                ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # as after a login
                server.user = None
            os.write(writer, pickle.dumps(asyncio.run(work())))
        except BaseException:  # noqa: BLE001  (a forked child has nobody to raise to)
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    return pickle.loads(data)


def test_an_ordinary_user_has_a_view_too(unprivileged):
    """With a namespace of users the candidate is tested unseen; nginx remains who it was."""

    async def work():
        publisher = quick(unprivileged.run)
        first = await publisher.publish(configured(unprivileged.spec(), instance("alice")))
        bad = await publisher.publish(configured(unprivileged.spec(), instance("bob"), **BROKEN))
        who = script_tests(unprivileged, f'id -u >>{unprivileged.own}/ids; exec "$@"')
        await publisher.publish(configured(who, instance("bob")))
        return first, bad, unprivileged.run.calls

    first, bad, calls = as_ordinary_user(unprivileged, work)
    assert "is it running?" in first.error
    assert calls[:4] == ["-t*", "-t*", "-T", "reload"]
    assert "/nowhere.crt" in bad.error
    assert bad.refused
    assert set((unprivileged.own / "ids").read_text().split()) == {str(unprivileged.user or os.geteuid())}
    assert calls[-4:] == ["-t*", "-t*", "-T", "reload"]


def test_what_only_a_view_forbids_is_not_held_against_the_candidate(unprivileged):
    """Within a namespace of users there is no sudo: a refusal that may come from that is looked at without."""

    async def work():
        script = 'grep -q 4294967295 /proc/self/uid_map || { echo no sudo here; exit 1; }; exec "$@"'
        outcome = await quick(unprivileged.run).publish(
            configured(script_tests(unprivileged, script), instance("alice"))
        )
        return outcome, unprivileged.run.calls

    outcome, calls = as_ordinary_user(unprivileged, work)
    assert "is it running?" in outcome.error
    assert calls == ["-t*", "-T", "-t", "reload"]
    assert os.listdir(unprivileged.config_dir / "live/locations") == ["alice.conf"]
