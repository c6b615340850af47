"""What the tests of the configuration share: files in a folder of their own, and people that do not exist."""

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jlabd.config.loaded import Loaded
from jlabd.config.read import check, load

NOBODY = 12345
"""A uid that is not root's, and that no account need have."""


@dataclass
class People:
    """Accounts of a machine that is not this one."""

    groups: dict[str, list[str]] = field(default_factory=lambda: {"students": ["ann", "bob"], "none": []})
    homes: dict[str, str] = field(default_factory=lambda: {"ann": "/home/ann", "bob": "/srv/home/bob"})

    def members(self, unix_group):
        return self.groups[unix_group]

    def home(self, user):
        return self.homes[user]


@dataclass
class Files:
    """A configuration file `jlabd.toml` and others beside it."""

    folder: Path
    people: People = field(default_factory=People)

    @property
    def main(self) -> Path:
        return self.folder / "jlabd.toml"

    def write(self, name, text) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def write_main(self, text) -> Path:
        """Write the main file; unless it says something else, it includes nothing."""
        return self.write("jlabd.toml", text if "[daemon]" in text else f'{text}\n[daemon]\ninclude = ""\n')

    def load(self, text, uid=NOBODY) -> Loaded:
        return load(self.write_main(text), accounts=self.people, uid=uid)

    def instance(self, text, name="alice", uid=NOBODY):
        """Return the spec of one instance of the configuration `text`."""
        return self.load(text, uid).configuration.instances[name]

    def check(self, text, uid=NOBODY) -> list[str]:
        """Return the problems of `text`, without the folder."""
        return self.told(check(self.write_main(text), accounts=self.people, uid=uid))

    def told(self, problems) -> list[str]:
        return [str(problem).replace(f"{self.folder}/", "") for problem in problems]


@pytest.fixture
def files(tmp_path):
    """A folder for configuration files."""
    return Files(tmp_path)


@pytest.fixture
def public_files():
    """A folder for configuration files that everybody can enter."""
    with tempfile.TemporaryDirectory(prefix="jl", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Files(Path(folder))


@contextmanager
def without_roots_rights():
    """Be somebody to whom permissions apply: root may read everything."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(own)
