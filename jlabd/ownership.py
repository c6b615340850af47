"""Who could change what a path leads to: root must not obey what others may write."""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath

_MOST_LINKS = 40


def why_not_only_root(path: Path) -> str:
    """Say why others than root could change what `path` leads to; empty if nobody can. Raises OSError.

    The file, every folder on the way and every link on the way count: all must belong to root, and nobody else may
    write to them. In a folder with the sticky bit (/tmp) nobody moves what is root's.
    """
    for place, status in _way(path):
        if status.st_uid != 0:
            return f"{place} belongs to another user (chown root {place})"
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
                continue
            return f"{place} can be written by others (chmod go-w {place})"
    return ""


def why_links_could_be_laid(folder: Path, trusted: Container[int]) -> str:
    """Say why others than root and the accounts `trusted` could lay links in `folder`, or put another one in its place.

    For files that root makes anew and would make wherever such a link leads. Groups are believed: distributions let one
    write to /var/log. Empty if nobody could. Raises OSError.
    """
    for place, status in _way(folder):
        if status.st_uid != 0 and status.st_uid not in trusted:
            return f"{place} belongs to another user (chown root {place})"
        if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IWOTH:
            if status.st_mode & stat.S_ISVTX and place != os.path.realpath(folder):
                continue
            return f"everybody can write to {place} (chmod o-w {place})"
    return ""


def _way(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every folder, link and at last the file on the way to `path`. Raises OSError."""
    here, ahead, links = PurePosixPath("/"), list(reversed(path.absolute().parts[1:])), 0
    yield "/", os.lstat("/")
    while ahead:
        part = ahead.pop()
        if part == "..":
            here = here.parent
            continue
        there = here / part
        status = os.lstat(there)
        yield str(there), status
        if not stat.S_ISLNK(status.st_mode):
            here = there
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(f"{path}: too many symbolic links")
        target = PurePosixPath(os.readlink(there))  # noqa: PTH115  (a pure path)
        here = PurePosixPath("/") if target.is_absolute() else here
        ahead += [name for name in reversed(target.parts) if name != "/"]
