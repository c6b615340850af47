"""Root's parent runs nothing that anybody else could have written."""

import os
import struct
import sys
from pathlib import Path

import pytest
from rig import fuse

from jlabd.core.launch import Account
from jlabd.launcher.trust import Inspector
from jlabd.processes.exits import wait_exit
from jlabd.warm.parents import NotWarmError
from jlabd.warm.venv import Venv
from tests.shells.warm.conftest import LABAPP, Environment

pytestmark = pytest.mark.root

NOBODY = 65534


def give_away(path, mode=None):
    """Let somebody else have the file."""
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    if mode is not None:
        os.chmod(path, mode)
    return str(path)


@pytest.fixture
def evil(place):
    """A folder of another user's with a module that leaves a trace when it is run."""
    folder = place / "evil"
    folder.mkdir()
    (folder / "trap.py").write_text(f"open({str(place / 'sprung')!r}, 'w')\n")
    give_away(folder / "trap.py")
    give_away(folder)
    yield folder
    assert not (place / "sprung").exists(), "code of another user's was run with root's rights"


def lead_by_pth(environment, evil):
    environment.add("lead.pth", f"{evil}\nimport trap\n")


def lead_by_code(environment, evil):
    environment.add("sitecustomize.py", f"import sys; sys.path.insert(0, {str(evil)!r}); import trap")


def lead_by_hook(environment, evil):
    """As editable packages do."""
    environment.add(
        "__editable__finder.py",
        f"""
import importlib.util, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "trap":
            return importlib.util.spec_from_file_location(name, {str(evil / "trap.py")!r})
sys.meta_path.append(Finder)
import trap
""",
    )
    environment.add("lead.pth", "import __editable__finder\n")


def lead_by_exec(environment, evil):
    environment.add("sitecustomize.py", f"exec(open({str(evil / 'trap.py')!r}).read())")


def lead_by_path(environment, evil):
    environment.add(
        "sitecustomize.py", f"import io, pathlib; exec(io.FileIO(pathlib.Path({str(evil / 'trap.py')!r})).read())"
    )


def lead_by_folder(environment, evil):
    environment.add("sitecustomize.py", f"import os; os.chdir({str(evil)!r}); exec(open('trap.py').read())")


def lead_by_link(environment, evil):
    (environment.packages / "trap.py").symlink_to(evil / "trap.py")
    environment.add("lead.pth", "import trap\n")


def lead_quietly(environment, evil):
    """Who catches the refusal is refused all the same."""
    environment.add(
        "sitecustomize.py",
        f"""
try:
    exec(open({str(evil / "trap.py")!r}).read())
except Exception:
    pass
""",
    )


@pytest.mark.parametrize(
    "lead",
    [lead_by_pth, lead_by_code, lead_by_hook, lead_by_exec, lead_by_path, lead_by_folder, lead_by_link, lead_quietly],
    ids=lambda f: f.__name__,
)
async def test_whatever_leads_there(nursery, environment, evil, lead):
    """A .pth file, a hook, a link or plain code that leads to another user's file makes the environment cold."""
    lead(environment, evil)
    with pytest.raises(NotWarmError, match=r"others than root can change .*evil"):
        await nursery.lab(environment)


async def test_no_debugger_before_the_daemon_has_hung_up(nursery, place):
    """While a lab that is its user's already still talks to the daemon, the user cannot look into it."""
    environment = Environment(place / "venv", "/usr/bin/python3")  # which everybody may use
    ask = 'import ctypes, os; os.write(4, b"%d %d;" % (os.geteuid(), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)))'
    environment.add("send2trash/__init__.py")
    environment.add("send2trash/plat_other.py", ask)  # is executed again in each lab
    environment.add("jupyterlab/labapp.py", f"import send2trash.plat_other\n{LABAPP}")
    process, why_cold = await nursery.lab(environment, account=Account("nobody", NOBODY, NOBODY, (), "/", "/bin/sh"))
    assert (why_cold, (await wait_exit(process)).code) == ("", 78)
    assert nursery.said().startswith(f"{NOBODY} 0;")


def own_package(environment):
    return give_away(environment.add("mine/__init__.py"))


def writable_for_all(environment):
    path = environment.add("mine.py")
    path.chmod(0o666)
    return str(path)


def writable_for_a_group(environment):
    path = environment.add("lib.libs/libmine.so")
    os.chown(path, 0, NOBODY)
    path.chmod(0o664)
    return str(path)


def acl(path, folder_mode=0):
    """Let somebody else write by an access control list; the mode shows no more than g+w."""
    entries = ((1, 6 | folder_mode, 0), (2, 7, NOBODY), (4, 4, 0), (0x10, 7, 0), (0x20, 4, 0))
    everybody = 0xFFFFFFFF
    packed = b"".join(struct.pack("<HHI", tag, bits, who or everybody) for tag, bits, who in entries)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    return str(path)


def writable_by_acl(environment):
    return acl(environment.add("mine.py"))


def folder_writable_by_acl(environment):
    return acl(environment.add("mine/__init__.py").parent, 1)


def own_folder(environment):
    return give_away(environment.folder / "bin")


def own_venv(environment):
    return give_away(environment.folder)


def own_settings(environment):
    return give_away(environment.folder / "pyvenv.cfg")


def own_link(environment):
    return give_away(environment.folder / "bin/python")


def sticky_packages(environment):
    environment.packages.chmod(0o1777)
    return str(environment.packages)


def own_base(environment):
    base = environment.folder / "base/lib/python3.99"
    base.mkdir(parents=True)
    (base / "os.py").write_text("")
    (environment.folder / "base/bin").mkdir()
    (environment.folder / "pyvenv.cfg").write_text(f"home = {environment.folder}/base/bin\n")
    return give_away(base / "os.py")


@pytest.mark.parametrize(
    "spoil",
    [
        own_package,
        writable_for_all,
        writable_for_a_group,
        writable_by_acl,
        folder_writable_by_acl,
        own_folder,
        own_venv,
        own_settings,
        own_link,
        sticky_packages,
        own_base,
    ],
    ids=lambda f: f.__name__,
)
async def test_before_anything_runs(nursery, environment, place, spoil):
    """What somebody else could change of interpreter, library or packages is named, and nothing is started."""
    culprit = spoil(environment)
    assert Venv(str(environment.folder)).untrusted() == culprit
    with pytest.raises(NotWarmError, match=f"others than root can change {culprit},"):
        await nursery.lab(environment)
    assert not (place / "launcher/nobody-at-home").exists(), "a parent was about to be started"


def test_what_is_roots_is_good(environment):
    """An environment of root's own is trusted, and so is the Python that these tests run in, below a sticky /tmp."""
    environment.add("mine.py").chmod(0o664)
    assert Venv(str(environment.folder)).untrusted() == ""
    assert Inspector().culprit(sys.executable) == ""


@pytest.mark.parametrize("link", ["{evil}/../good", "good/../evil/trap.py", "{evil}/trap.py"])
def test_the_way_through_links_is_walked_as_the_kernel_walks_it(place, evil, link):
    """Each folder that a link leads through counts, also one that `..` leaves again."""
    (place / "good").mkdir()
    (place / "link").symlink_to(link.format(evil=evil))
    assert str(evil) in Inspector().culprit(f"{place}/link")


def test_links_without_end(place):
    """A link to itself is nobody's."""
    (place / "loop").symlink_to("loop")
    assert Inspector().culprit(f"{place}/loop/x") == f"{place}/loop"


@pytest.mark.parametrize("uid", [NOBODY, 0])
def test_a_file_system_of_a_users_own(place, uid):
    """What a user mounted herself (FUSE with allow_other) says of each file that it is root's, if she likes."""
    (place / "home").mkdir()
    os.chown(place / "home", uid, uid)
    try:
        with fuse.mounted(place / "home", uid):
            assert os.stat(place / "home").st_uid == 0
            assert Inspector().culprit(f"{place}/home/venv/bin/python") == (f"{place}/home" if uid else "")
    except OSError as error:
        pytest.skip(f"NO FUSE HERE ({error}): file systems of users' own are not tested")


def test_what_is_not_there(place, evil):
    """What does not exist is good where only root could make it."""
    assert Inspector().culprit(f"{place}/nothing/there") == ""
    assert Inspector().culprit(f"{evil}/nothing") == str(evil)
    assert Inspector().culprit(str(Path("/etc/passwd/x"))) == ""
