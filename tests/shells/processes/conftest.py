"""What the tests of processes share: both keepers of trees, accounts, and children to be started."""

import dataclasses
import os
import pwd
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from rig.processes import with_argument

from jlabd.core.launch import Account, Launch
from jlabd.processes.accounts import lookup
from jlabd.processes.choice import choose_trees
from jlabd.processes.marked_trees import MarkedTrees
from jlabd.processes.spawn import spawn
from jlabd.warm.birth import Descriptors
from jlabd.warm.forkserver import ForkServer

CHILDREN = Path(__file__).resolve().parents[2] / "children"
EVERYBODYS_PYTHON = "/usr/bin/python3"


@pytest.fixture
def runtime_dir():
    """A short folder of the test's own, which everybody may enter."""
    folder = tempfile.mkdtemp(prefix="jl", dir="/tmp")
    os.chmod(folder, 0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=[pytest.param("cgroup", marks=pytest.mark.root), "marks"])
async def keeper(request, runtime_dir):
    """A keeper of process trees, of each kind."""
    keeper = choose_trees(runtime_dir) if request.param == "cgroup" else MarkedTrees(runtime_dir)
    if keeper.kind != request.param:
        keeper.close()
        pytest.skip("NO CGROUP V2 that can be written here")
    yield keeper
    keeper.close()


@pytest.fixture
async def marked(runtime_dir):
    """The keeper that works by marks."""
    keeper = MarkedTrees(runtime_dir)
    yield keeper
    keeper.close()


@pytest.fixture
async def nobody():
    """The account of user nobody; root's tests only."""
    return await lookup("nobody", None)


@dataclasses.dataclass
class Starter:
    """Starts children and remembers what to look for afterwards."""

    folder: Path
    needle: str
    """Is an argument of all that is started."""
    how: Callable = spawn
    cgroup_fd: int | None = None
    started: list = dataclasses.field(default_factory=list)

    @property
    def log(self):
        return self.folder / "child.log"

    def written(self):
        return self.log.read_bytes().decode() if self.log.exists() else ""

    def launch(self, script, *words, account=None, mark="", **more):
        python = EVERYBODYS_PYTHON if account else sys.executable
        if not (self.folder / script).exists():  # an earlier child may be reading it
            shutil.copy(CHILDREN / script, self.folder)
        env = {"PATH": os.defpath, **more.pop("env", {})}
        argv = (python, str(self.folder / script), *words, self.needle)
        plain = Launch(argv=argv, env=env, cwd=str(self.folder), account=account, umask=0o077, mark=mark)
        return dataclasses.replace(plain, **more)

    async def spawn(self, launch, **descriptors):
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        descriptors = {"listen_fd": None, "cgroup_fd": self.cgroup_fd, **descriptors}
        try:
            process = await self.how(launch, output_fd=output, **descriptors)
        finally:
            os.close(output)
        self.started.append(process)
        return process

    async def start(self, keeper, name, script, *words, account: Account | None = None):
        enrolment = keeper.prepare(name, account.uid if account else None)
        launch = self.launch(script, *words, account=account, mark=enrolment.mark)
        process = await self.spawn(launch, cgroup_fd=enrolment.cgroup_fd)
        keeper.enrol(name, account.uid if account else None, process.identity)
        return process

    def living(self):
        return with_argument(self.needle)

    def clean_up(self):
        for process in self.started:
            process.close()
        for pid in self.living():
            os.kill(pid, 9)


@pytest.fixture
def starter(runtime_dir):
    """Starts children whose log is in `runtime_dir`; none of them outlives the test."""
    folder = Path(runtime_dir) / "children"
    folder.mkdir(mode=0o755)
    starter = Starter(folder, f"needle-{uuid.uuid4().hex}")
    yield starter
    starter.clean_up()


def by_server(forks):
    """Return what starts programs as `spawn` does, by a fork server."""

    def start(launch, *, output_fd, listen_fd=None, notify_fd=None, cgroup_fd=None):
        return forks.spawn(launch, Descriptors(output_fd, listen_fd, notify_fd, cgroup_fd))

    return start


@pytest.fixture(params=["fork", pytest.param("fork server", marks=pytest.mark.root)])
async def each_starter(request, starter, runtime_dir):
    """A starter that forks itself, and one that has a fork server for that."""
    if request.param == "fork":
        yield starter
        return
    keeper, forks = choose_trees(runtime_dir), ForkServer()
    if keeper.kind != "cgroup":
        keeper.close()
        pytest.skip("NO CGROUP V2 that can be written here")
    await forks.begin()
    yield dataclasses.replace(starter, how=by_server(forks), cgroup_fd=keeper.prepare("a", None).cgroup_fd)
    assert forks.works
    await forks.close()
    await keeper.kill("a")
    keeper.close()


@pytest.fixture
def me():
    """The test's own account entry."""
    return pwd.getpwuid(os.geteuid())


@pytest.fixture
def log_dir(tmp_path):
    """A folder for logs on a file system that can cut in place, if the test folder is on one."""
    folder = tmp_path / "log"
    folder.mkdir(mode=0o750)
    return folder


@pytest.fixture
def memory_dir():
    """A folder on a file system that cannot cut in place (tmpfs)."""
    folder = Path(tempfile.mkdtemp(prefix="jl", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)
