"""The project stands on its own: it names nothing that happens to lie on the machine where it was written."""

import os
import re

from tests.house.tree import TOP, files

ANYWHERE = {"bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "run", "sbin", "srv"}
ANYWHERE |= {"sys", "tmp", "usr", "var"}
"""Folders of every Linux system (the Filesystem Hierarchy Standard)."""

ABSOLUTE = re.compile(r"(?<![\w.:/~{}<>$)*-])/([A-Za-z][\w.-]*)((?:/[\w.-]+)*)")
CLIMBING = re.compile(r"(?<![\w.-])(?:\.\./)+[\w-][\w.-]*")


def _exists(path):
    return os.access(path, os.F_OK)


def _foreign(path, text):
    for match in ABSOLUTE.finditer(text):
        first, rest = match.groups()
        if first in ANYWHERE or (first == "root" and not rest):
            continue
        if _exists(f"/{first}{rest if first == 'root' else ''}"):
            yield match.group()
    for match in CLIMBING.finditer(text):
        targets = [(start / match.group()).resolve() for start in (path.parent, TOP)]
        if any(target.exists() and not target.is_relative_to(TOP) for target in targets):
            yield match.group()


def test_no_path_of_this_machine_is_named():
    """No file names a path that exists here, outside the project, and not on every system."""
    found = {}
    for path in files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if names := sorted(set(_foreign(path, text))):
            found[str(path.relative_to(TOP))] = names
    assert found == {}


def test_lock_files_name_no_server():
    """The lock files name packages and hashes only, so that every index and mirror serves them."""
    lines = {}
    for path in files(".txt", ".in"):
        if path.parent == TOP / "packaging/lock":
            lines[path.name] = [line for line in path.read_text().splitlines() if "://" in line or line.startswith("-")]
    assert len(lines) >= 4
    assert not any(lines.values()), lines
