"""An environment as it lies on disk: where its code comes from, and whether that has changed. Runs nothing of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jlabd.launcher.trust import Inspector

_HOME = re.compile(r"^\s*home\s*=\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
_LIBRARIES = ("lib", "lib64")

Fingerprint = frozenset[tuple[str, int, int]]
"""(path, time of its last change in ns, inode) of each folder and file that says whether there is new code."""


@dataclass(frozen=True, slots=True)
class Venv:
    """The folder of an environment, or the prefix of a Python that is none."""

    folder: str

    @property
    def python(self) -> str:
        """Its interpreter."""
        return f"{self.folder}/bin/python"

    def untrusted(self) -> str:
        """Return what others than root could change of the code that it would run, empty if nothing. Raises OSError."""
        inspector = Inspector()
        for path in (self.folder, self.python, self._settings):
            if found := inspector.culprit(path):
                return found
        base = self._base()
        libraries = [str(path) for prefix in (self.folder, base) for path in _python_folders(prefix)]
        return inspector.culprit_below(libraries)

    def fingerprint(self, folders: Iterable[str] = ()) -> Fingerprint:
        """Return what changes when packages do; `folders` are those that something was imported from.

        Takes some 2 µs for each. Raises nothing: what cannot be looked at has changed when it can.
        """
        packages = (str(path / "site-packages") for path in _python_folders(self.folder))
        return frozenset(map(_state, {self.python, self._settings, *packages, *folders}))

    @property
    def _settings(self) -> str:
        return f"{self.folder}/pyvenv.cfg"

    def _base(self) -> str:
        """Return the prefix of the Python that it was made from. Raises OSError."""
        try:
            found = _HOME.search(Path(self._settings).read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            found = None
        home = found[1] if found else os.path.dirname(os.path.realpath(self.python))  # noqa: PTH120
        return os.path.dirname(os.path.realpath(home))  # noqa: PTH120


def _python_folders(prefix: str) -> list[Path]:
    return [path for library in _LIBRARIES for path in sorted(Path(prefix, library).glob("python3*"))]


def _state(path: str) -> tuple[str, int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116  (hot path)
    except OSError:
        return path, 0, 0
    return path, status.st_mtime_ns, status.st_ino
