"""Warm parents: what comes of them, when there is none, and that nothing is ever left behind."""

import asyncio
import gc
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from rig.processes import is_alive, open_descriptors, with_argument
from rig.waiting import eventually

from jlabd.processes.exits import wait_exit
from jlabd.processes.procfs import children
from jlabd.processes.spawn import SpawnError, spawn
from jlabd.warm import parent
from jlabd.warm import parents as parents_module
from jlabd.warm.parents import NotWarmError
from tests.shells.warm.conftest import Environment

PYENV = Path("~/.pyenv/versions").expanduser()


def parents_in(place):
    return with_argument(f"{place}/launcher/warm.py")


async def ended(nursery, environment, **changes):
    """Fork a lab and return how it ended."""
    process, why_cold = await nursery.lab(environment, **changes)
    assert why_cold == ""
    return await wait_exit(process)


def place_of(nursery):
    """Return what is kept of the only environment."""
    (place,) = nursery._places.values()
    return place


async def test_a_lab_is_our_own_child(nursery, environment, place):
    """Whoever forked it, the lab's end is told to us, with its status; it runs the launcher."""
    assert (await ended(nursery, environment)).code == 78
    assert "lab.py is started by jlabd" in nursery.said()
    assert b"lab.py is started by jlabd" in (place / "log").read_bytes()


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13"])
async def test_every_python(nursery, place, version):
    """Labs are forked in every Python from 3.8 on."""
    found = sorted(PYENV.glob(f"{version}.*/bin/python{version}"))
    if not found:
        pytest.skip(f"NO PYTHON {version} in {PYENV}: warm starts are not tested with it")
    environment = Environment(place / "other", found[-1])
    assert (await ended(nursery, environment)).code == 78, nursery.news
    assert "lab.py is started by jlabd" in nursery.said()


async def test_a_python_that_is_too_old_says_so(nursery, place):
    """Python 3.7 has no parent, with a sentence."""
    found = sorted(PYENV.glob("3.7.*/bin/python3.7"))
    if not found:
        pytest.skip(f"NO PYTHON 3.7 in {PYENV}")
    with pytest.raises(NotWarmError, match=r"3\.8 is the oldest"):
        await nursery.lab(Environment(place / "old", found[-1]))


async def test_many_at_once(nursery, environment, place):
    """Twenty starts at the same time have one parent and are twenty processes."""
    gc.collect()  # what an earlier test let go of is not to be closed in between
    before = len(open_descriptors(os.getpid()))
    labs = await asyncio.gather(*(nursery.lab(environment) for _ in range(20)))
    assert len({process.pid for process, _ in labs}) == 20
    assert len(parents_in(place)) == 1
    assert {(await wait_exit(process)).code for process, _ in labs} == {78}
    await nursery.close()
    assert len(open_descriptors(os.getpid())) == before
    assert not parents_in(place)


UNFIT = {
    "print('hello')": "importing it prints: hello",
    "import os; os.write(2, b'oh')": "importing it prints: oh",
    "import os; os._exit(3)": "the process exited with status 3",
    "import os, signal; print('dead'); os.kill(os.getpid(), signal.SIGSEGV)": r"signal 11 \(SIGSEGV\)",
    "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()": "starts a thread",
    "import socket; kept = socket.socket()": "leaves a socket open",
    "import os; kept = os.pipe()": "leaves a pipe open",
    "import asyncio; kept = asyncio.new_event_loop()": "leaves a",
    "import subprocess; kept = subprocess.Popen(['sleep', '77.5'])": "leaves a process behind",
    "import os; kept = os.path.expanduser('~')": "module sitecustomize keeps",
    "import os; kept = {'deep': [dict(os.environ)]}": "module sitecustomize keeps",
    "import os\nclass Kept:\n    def __init__(self): self.home = os.environ['HOME']\nkept = Kept()": "keeps",
    "import os\nclass Kept:\n    home = os.environ['HOME']": "keeps",
    "import os\ndef kept(user=os.environ['USER']): pass": "keeps",
    "import os, pathlib; kept = pathlib.Path.cwd() / 'here'": "keeps",
    "import os; kept = (os.environ['PATH'],)": "module sitecustomize keeps",
    "import time; time.sleep(99)": "takes more than 1 s",
}


@pytest.mark.parametrize("code", UNFIT)
async def test_unfit(nursery, environment, place, monkeypatch, code):
    """An import that leaves something alive, speaks, ends, hangs or keeps who it was gives no labs, and says why."""
    if "sleep(99)" in code:
        monkeypatch.setattr(parents_module, "IMPORT_TIMEOUT_S", 1.0)
    environment.add("sitecustomize.py", code)
    with pytest.raises(NotWarmError, match=UNFIT[code]):
        await nursery.lab(environment)
    assert not nursery.news[-1].good
    await eventually(lambda: not parents_in(place) and not with_argument("77.5"), 5)


async def test_broken_jupyterlab(nursery, environment):
    """Without a JupyterLab that can be imported there is no parent; the reason is the launcher's."""
    environment.add("jupyterlab/labapp.py", "raise ImportError('a piece is missing')\n")
    with pytest.raises(NotWarmError, match="a piece is missing"):
        await nursery.lab(environment)


async def test_variables_that_the_import_reads(nursery, environment):
    """A lab that sets what the import looked at would have been imported otherwise: it starts cold, the others warm."""
    environment.add("sitecustomize.py", "import os; proxy, there = os.environ.get('HTTP_PROXY'), b'A' in os.environb")
    assert (await ended(nursery, environment)).code == 78
    for name in ("HTTP_PROXY", "A"):
        with pytest.raises(NotWarmError, match=f"env has {name}, which is read"):
            await nursery.lab(environment, env={name: "x"})
    assert (await ended(nursery, environment, env={"B": "x", "JUPYTER_DATA_DIR": "/x"})).code == 78


@pytest.fixture
def open_environment(place):
    """An environment that lets its users have packages of their own: one of the system's Python, which has few."""
    environment = Environment(place / "open", "/usr/bin/python3")
    settings = environment.folder / "pyvenv.cfg"
    settings.write_text(settings.read_text().replace("= false", "= true"))
    return environment


@pytest.fixture
def user_packages(open_environment, place):
    """The folder of a user's own packages."""
    folder = place / "home/.local/lib" / open_environment.packages.parent.name / "site-packages"
    folder.mkdir(parents=True)
    return folder


async def test_own_packages_of_the_user(nursery, open_environment, user_packages, place):
    """What she has installed for herself is found before what everybody has, as in a Python that she started."""
    (user_packages / "hers.py").write_text("")
    (user_packages / "usercustomize.py").write_text(
        "import hers, os, site, sys\n"
        "place = [sys.path.index(path) for path in site.getsitepackages() if path in sys.path]\n"
        "first = sys.path.index(os.path.dirname(hers.__file__)) < min(place)\n"
        "print('found', site.ENABLE_USER_SITE, first, flush=True)\n"
    )
    for env in ({"HOME": f"{place}/home"}, {"HOME": f"{place}/home", "PYTHONNOUSERSITE": "1"}):
        assert (await ended(nursery, open_environment, env=env)).code == 78
    assert (place / "log").read_text().count("found True True") == 1


async def test_own_packages_in_place_of_imported_ones(nursery, open_environment, user_packages, place):
    """Who has a JupyterLab of her own gets that one: the lab executes Python after all, and says so."""
    (user_packages / "jupyterlab").mkdir()
    process, why_cold = await nursery.lab(open_environment, env={"HOME": f"{place}/home"})
    assert why_cold == f"{user_packages} has a jupyterlab of its own"
    cmdline = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert b"--warm" not in cmdline
    assert (await wait_exit(process)).code == 78
    assert "lab.py is started by jlabd" in nursery.said()


async def test_no_interpreter(nursery, environment):
    """An environment whose interpreter is gone has no parent."""
    (environment.folder / "bin/python").unlink()
    with pytest.raises(NotWarmError, match="does not exist"):
        await nursery.lab(environment)


async def test_a_failure_is_not_tried_again_at_once_but_new_code_is(nursery, environment, place):
    """What failed is left alone for a while; when something is installed it is tried at the next start."""
    path = environment.add("sitecustomize.py", "open('/var/tmp/jlw-tries', 'a').write('x'); print('hello')")
    tries = Path("/var/tmp/jlw-tries")
    tries.unlink(missing_ok=True)
    for _ in range(3):
        with pytest.raises(NotWarmError, match="prints"):
            await nursery.lab(environment)
    assert tries.read_text() == "x"
    tries.unlink()
    path.unlink()
    os.utime(environment.packages, (2, 2))
    assert (await ended(nursery, environment)).code == 78


async def test_new_code_is_used_by_the_next_lab(nursery, environment, place):
    """After a change of any folder that was imported from there is a new parent; the old one ends."""
    await ended(nursery, environment)
    (old,) = parents_in(place)
    await ended(nursery, environment)
    assert parents_in(place) == [old]
    environment.add("jupyterlab/labapp.py", "import os\nos.environ\n" + "class LabApp:\n    pass\n")
    os.utime(environment.packages / "jupyterlab", (3, 3))
    await ended(nursery, environment)
    await eventually(lambda: not is_alive(old), 5)
    (new,) = parents_in(place)
    assert new != old


async def test_a_change_during_the_import_is_seen(nursery, environment):
    """Code that changed while it was imported is not used: nobody knows which half."""
    environment.add("sitecustomize.py", f"import os; os.mkdir({str(environment.packages / 'new')!r})")
    with pytest.raises(NotWarmError, match="changed while"):
        await nursery.lab(environment)


async def test_idle_parents_go_away(nursery, environment, place):
    """A parent that nobody needs ends; the next start makes another."""
    nursery.idle_s = 0.05
    await ended(nursery, environment)
    await eventually(lambda: not parents_in(place), 5)
    assert (await ended(nursery, environment)).code == 78


async def test_a_parent_that_was_killed(nursery, environment, place):
    """Whoever kills a parent makes starts cold for a while, and no more than that."""
    await ended(nursery, environment)
    os.kill(parents_in(place)[0], signal.SIGKILL)
    await eventually(lambda: not parents_in(place), 5)
    with pytest.raises(NotWarmError, match="has ended"):
        await nursery.lab(environment)
    place_of(nursery).retry_at = 0.0
    assert (await ended(nursery, environment)).code == 78


async def test_a_parent_that_is_killed_with_a_wish_unread(nursery, environment, place):
    """One that dies before it looks at what it was asked has ended, whatever the socket says of that."""
    await ended(nursery, environment)
    (pid,) = parents_in(place)
    os.kill(pid, signal.SIGSTOP)
    waiting = asyncio.create_task(nursery.lab(environment))
    await eventually(lambda: place_of(nursery).parent.busy, 5)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(NotWarmError, match="has ended"):
        await waiting


async def test_a_parent_that_does_not_answer(nursery, environment, place, monkeypatch):
    """One that hangs is given up in time, and ended."""
    await ended(nursery, environment)
    monkeypatch.setattr(parent, "ANSWER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(parent, "FAREWELL_S", 0.2)
    os.kill(parents_in(place)[0], signal.SIGSTOP)
    outcomes = await asyncio.gather(*(nursery.lab(environment) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NotWarmError] * 3
    await eventually(lambda: not parents_in(place), 5)


async def test_a_start_that_is_called_off(nursery, environment, place):
    """A lab that was asked for and is not wanted any more ends by itself; the next answer is not taken for its."""
    await ended(nursery, environment)
    (pid,) = parents_in(place)
    os.kill(pid, signal.SIGSTOP)
    unwanted = asyncio.create_task(nursery.lab(environment))
    await asyncio.sleep(0.1)
    unwanted.cancel()
    await asyncio.wait([unwanted])
    os.kill(pid, signal.SIGCONT)
    process, _ = await nursery.lab(environment)
    assert (await wait_exit(process)).code == 78
    await eventually(lambda: [child for child in children() if is_alive(child)] == [pid], 5)


async def test_closed_while_importing(nursery, environment, place):
    """The daemon's end does not wait for an import."""
    environment.add("sitecustomize.py", "import time; time.sleep(99)")
    waiting = asyncio.create_task(nursery.lab(environment))
    await eventually(lambda: parents_in(place), 30)
    async with asyncio.timeout(5):
        await nursery.close()
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], NotWarmError)
    await eventually(lambda: not parents_in(place), 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"cwd": "/nonexistent/place"},
        {"cwd": "/etc/passwd"},
        pytest.param({"open_files": 10**8}, id="open files"),
        {"env": {"A": "x\0y"}},
    ],
)
async def test_what_stops_a_start_is_told_as_for_a_cold_one(nursery, environment, changes):
    """A lab that cannot become what was asked for fails with the reason of a cold start, word for word."""
    with pytest.raises(SpawnError) as warm:
        await nursery.lab(environment, **changes)
    launch = replace(nursery.launch, argv=("/bin/true",), **changes)
    with pytest.raises(SpawnError) as cold:
        await spawn(launch, listen_fd=nursery.notify, output_fd=nursery.log.fileno())
    assert (warm.value.reason, warm.value.permanent) == (cold.value.reason, cold.value.permanent)


async def test_the_environment_is_passed_whole(nursery, environment, place):
    """Long, strange and undecodable values arrive; nothing of the parent's or the daemon's does."""
    env = {"LONG": "x" * 100_000, "ODD": "%s $HOME 'q' \"Q\" ü\n€", "RAW": os.fsdecode(b"\xff\xfe")}
    seen = place / "seen"
    env["SEEN"] = str(seen)
    script = f"{place}/launcher/lab.py"
    Path(script).write_text(
        Path(script)
        .read_text()
        .replace(
            "def main(argv: List[str]) -> None:\n",
            "def main(argv: List[str]) -> None:\n    import subprocess\n"
            '    with open(os.environ["SEEN"], "wb") as file:\n'
            '        file.write(subprocess.run(["/usr/bin/env", "-0"], stdout=subprocess.PIPE).stdout)\n',
        )
    )
    await ended(nursery, environment, env=env)
    got = dict(item.split(b"=", 1) for item in seen.read_bytes().split(b"\0") if item)
    own = {b"LISTEN_FDS", b"LISTEN_FDNAMES", b"LISTEN_PID", b"JLABD_MARK"}
    assert {key: got[key] for key in got.keys() - own} == {os.fsencode(k): os.fsencode(v) for k, v in env.items()}


HOSTILE = """
import os
names = {n: os.readlink(f"/proc/self/fd/{n}") for n in range(5, 64) if os.path.lexists(f"/proc/self/fd/{n}")}
sockets = [n for n in names if names[n].startswith("socket:")]
for number in sockets:
    os.write(number, b"nonsense")
with open(os.environ["SEEN"], "w") as file:
    file.write(f"{len(sockets)} sockets")
"""


async def test_code_of_the_users_own_has_no_way_to_the_daemon(nursery, environment, place):
    """What Python runs for the user before JupyterLab finds no socket on which the daemon would listen to it."""
    environment.add("sitecustomize.py", "import site; site.PREFIXES.append(site.PREFIXES[0])")  # as with the system's
    own = place / "home/.local/lib" / environment.packages.parent.name / "site-packages"
    own.mkdir(parents=True)
    (own / "hostile.py").write_text(HOSTILE)
    (own / "hostile.pth").write_text("import hostile\n")
    env = {"HOME": f"{place}/home", "SEEN": f"{place}/seen", "PATH": "/bin"}
    assert (await ended(nursery, environment, env=env)).code == 78
    assert (place / "seen").read_text() == "0 sockets"
