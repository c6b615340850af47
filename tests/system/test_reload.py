"""Reload is a transaction: the good edit touches only what it must, the bad one nothing."""

import json
import signal
import sys

import pytest
from rig.daemon import daemons
from rig.unix_http import get
from rig.waiting import until
from rig.web import CHILD, web


@pytest.fixture(scope="module")
def daemon_of_three():
    """A daemon that all tests with three instances share."""
    with daemons() as make:
        yield make(web("a") + web("b") + web("c")).start()


@pytest.fixture
def three(daemon_of_three):
    """Three ready instances, and no others."""
    daemon_of_three.write(web("a") + web("b") + web("c"))
    daemon_of_three.ctl("reload", check=True)
    for name in "abc":
        daemon_of_three.wait_for(name, "ready")
    until(lambda: len(pids(daemon_of_three)) == 3, 10, "those of earlier tests to be gone")
    return daemon_of_three


def pids(daemon):
    """Return name → pid."""
    return {entry["name"]: entry["pid"] for entry in daemon.document()["instances"]}


def test_no_change_touches_nobody(three):
    """The same configuration, with other comments and order, keeps every pid."""
    before = pids(three)
    three.write("# a comment\n" + web("c") + web("a") + "\n\n" + web("b"))
    three.ctl("reload", check=True)
    assert pids(three) == before


def test_one_change_is_one_restart(three):
    """Added starts, removed stops, changed restarts, and nobody else notices."""
    before = pids(three)
    three.write(web("a") + web("b", env='{ X = "1" }') + web("d"))
    plan = json.loads(three.ctl("reload", "--dry-run", "--json", check=True).stdout)
    assert (plan["added"], plan["removed"], plan["untouched"]) == (["d"], ["c"], 1)
    assert plan["changed"] == {"b": ["env"]}
    assert pids(three) == before
    three.ctl("reload", check=True)
    three.wait_for("b", "ready")
    three.wait_for("d", "ready")
    until(lambda: "c" not in pids(three), 10, "c to be gone")
    after = pids(three)
    assert after["a"] == before["a"]
    assert after["b"] not in {before["b"], None}
    assert three.instance("b")["restarts"] == 0
    assert not (three.folder / "run/sockets/c.sock").exists()


def test_added_and_removed_by_command(three):
    """`jlabctl add` and `remove` change the file of the running daemon, which applies it; the others notice nothing."""
    before = pids(three)
    words = ("--set", f"command={json.dumps([sys.executable, str(CHILD)])}", "--root-dir", f"{three.folder}/home")
    done = three.ctl("add", "d", *words, "--reload", check=True)
    assert "added: d\n" in done.stdout
    three.wait_for("d", "ready")
    assert "'d' is defined already" in three.ctl("add", "d").stderr
    assert "removed: d\n" in three.ctl("remove", "d", "--reload", check=True).stdout
    until(lambda: pids(three) == before, 10, "d to be gone")


def test_how_it_is_supervised_changes_without_a_restart(three):
    """Restart policy, stop, probes, log and nginx keys do not concern the running server."""
    before = pids(three)
    three.write(web("a", restart='{ initial = "5s" }', stop='{ timeout = "3s" }') + web("b") + web("c"))
    three.ctl("reload", check=True)
    assert pids(three) == before


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("[instance.a]\nusr = 'x'\n", "did you mean"),
        ("[instance.a\n", "jlabd.toml:"),
        ("[instance.'../x']\n", "instance"),
        ("[instance.a]\nlisten = 99999\n", "listen"),
    ],
)
def test_bad_edit_changes_nothing(three, bad, says):
    """Whatever is wrong: the command says where, every instance stays, and the error stands in the status."""
    before = pids(three)
    three.write(bad)
    done = three.ctl("reload")
    assert done.returncode == 1
    assert says in done.stderr
    assert str(three.path) in done.stderr
    assert pids(three) == before
    assert str(three.path) in three.document()["config"]["error"]
    three.write(web("a") + web("b") + web("c"))
    three.ctl("reload", check=True)
    assert three.document()["config"]["error"] is None
    assert pids(three) == before


def test_hup_reloads(three):
    """SIGHUP does what `jlabctl reload` does."""
    three.write(web("a") + web("b") + web("c") + web("d"))
    three.process.send_signal(signal.SIGHUP)
    three.wait_for("d", "ready")


def test_bad_include_is_isolated(jlabd):
    """One bad included file takes neither the others down nor the instances that it defined."""
    daemon = jlabd(web("a"), daemon='include = "{folder}/more/*.toml"')
    more = daemon.folder / "more"
    more.mkdir()
    for name in ("b", "c"):
        (more / f"{name}.toml").write_text(web(name).replace("{folder}", str(daemon.folder)))
    daemon.start()
    for name in "abc":
        daemon.wait_for(name, "ready")
    before = pids(daemon)
    (more / "b.toml").write_text("[instance.b]\nnonsense = 1\n")
    (more / "c.toml").unlink()
    done = daemon.ctl("reload")
    assert done.returncode == 1
    assert "b.toml:2" in done.stderr
    until(lambda: "c" not in pids(daemon), 10, "c to be gone")
    assert pids(daemon) == {name: before[name] for name in "ab"}
    assert get(daemon.folder / "run/sockets/b.sock", "/b/")[0] == 200


def test_moving_house_is_refused(three):
    """Keys that a running daemon cannot change are refused by name."""
    three.write(web("a"))
    text = three.path.read_text().replace("/state", "/elsewhere")
    three.path.write_text(text)
    done = three.ctl("reload")
    assert done.returncode == 1
    assert "daemon.state_dir" in done.stderr


def test_bad_edit_for_nginx_changes_nothing(jlabd, nginx):
    """What nginx itself refuses is put back, and the labs stay as they were."""
    daemon = jlabd(web("a"), nginx=nginx.settings()).start()
    nginx.start()
    daemon.wait_for("a", "ready")
    until(lambda: daemon.document()["nginx"]["generation"] == 1, 30, "nginx to be in line")
    before = pids(daemon)
    live = (nginx.folder / "jlabd.d/live").resolve()
    (nginx.folder / "nginx.conf").write_text((nginx.folder / "nginx.conf").read_text() + "\nnonsense;\n")
    daemon.write(web("a") + web("b"))
    done = daemon.ctl("reload")
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    assert pids(daemon) == before
    assert (nginx.folder / "jlabd.d/live").resolve() == live
    assert "nonsense" in daemon.document()["config"]["error"]


def test_password_change(jlabd):
    """`jlabctl passwd NAME` puts the hash into the file, keeping its comments; a reload brings it into force."""
    daemon = jlabd("# precious comment\n" + web("a").replace("command", "autostart = false\ncommand")).start()
    done = daemon.ctl("passwd", "a", "--stdin", input="new secret\n", check=True)
    text = daemon.path.read_text()
    assert "# precious comment" in text
    assert "argon2:$argon2id$" in text
    assert "new secret" not in text + done.stdout + done.stderr
    daemon.ctl("reload", check=True)
