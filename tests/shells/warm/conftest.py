"""What the tests of warm starts share: environments that import in no time, and parents in them."""

import asyncio
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from jlabd.core.launch import Launch
from jlabd.jupyter.launchers import install
from jlabd.processes.marked_trees import MarkedTrees
from jlabd.warm.birth import Descriptors
from jlabd.warm.parents import Parents

LABAPP = "class LabApp:\n    pass\n"


class Environment:
    """A venv with a JupyterLab that is no more than its name."""

    def __init__(self, folder, python=sys.executable):
        real = Path(python).resolve()
        version = (
            real.name if real.name.startswith("python3.") else f"python{sys.version_info[0]}.{sys.version_info[1]}"
        )
        self.folder = Path(folder)
        self.packages = self.folder / "lib" / version / "site-packages"
        self.packages.mkdir(parents=True)
        (self.folder / "bin").mkdir()
        (self.folder / "bin/python").symlink_to(real)
        (self.folder / "pyvenv.cfg").write_text(f"home = {real.parent}\ninclude-system-site-packages = false\n")
        self.add("jupyterlab/__init__.py", "__version__ = '4.0'\n")
        self.add("jupyterlab/labapp.py", LABAPP)

    def add(self, name, text=""):
        """Write a module or another file among the packages."""
        path = self.packages / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.utime(path.parent, (1, 1))  # long ago, so that a test need not wait until it is
        os.utime(self.packages, (1, 1))
        return path


@pytest.fixture
def place():
    """A folder of root's own (or the tester's) that everybody may enter."""
    folder = tempfile.mkdtemp(prefix="jlw", dir="/var/tmp")
    os.chmod(folder, 0o755)
    yield Path(folder)
    shutil.rmtree(folder)


@pytest.fixture
def environment(place):
    """An environment in which nothing is wrong."""
    return Environment(place / "venv")


class Nursery(Parents):
    """Parents with what they need, and the descriptors of a lab."""

    def __init__(self, place, trees, idle_s=60.0):
        self.tasks = set()
        self.news = []
        super().__init__(trees, install(str(place)), idle_s, self.run, self.news.append)
        self.log = open(place / "log", "ab")  # noqa: SIM115
        self.read, self.notify = os.pipe()
        self.launch = Launch(("", f"{place}/launcher/lab.py"), {"PATH": "/bin"}, "/", None, 0o077, mark="m")

    def run(self, work, _name):
        """Run a task as the daemon does."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        return task

    async def lab(self, environment, **changes):
        """Fork a lab that ends at once, because nobody told it its settings; see `said`."""
        folder = str(environment.folder)
        launch = replace(self.launch, argv=(f"{folder}/bin/python", self.launch.argv[1]), **changes)
        return await self.fork(folder, launch, Descriptors(self.log.fileno(), self.notify, self.notify, None))

    def said(self):
        """What labs have said on the pipe."""
        os.set_blocking(self.read, False)
        return os.read(self.read, 65536).decode()


@pytest.fixture
async def nursery(place):
    """Parents of the test's own; in the end all are gone, and raised nothing unforeseen."""
    trees = MarkedTrees(str(place))
    nursery = Nursery(place, trees)
    yield nursery
    await nursery.close()
    for task in nursery.tasks:
        assert task.done()
        assert task.cancelled() or task.exception() is None
    nursery.log.close()
    os.close(nursery.read)
    os.close(nursery.notify)
    trees.close()
