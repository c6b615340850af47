"""Who could have written a file: what a process with root's rights may execute, and what it may not.

Two looks use this. The daemon's comes first and sees whole folders: the interpreter, its standard library and the
packages with their shared libraries, which no hook in Python sees being loaded. The guard in the warm parent sees the
rest while it is opened: what a .pth file, an editable package or a hook leads to.

Runs under the Python of somebody else's environment too: 3.8 or newer, standard library only.
"""

import errno
import os
import re
import stat
from typing import Dict, Iterable, Iterator, List, Set, Tuple

LINKS = 40
"""Symbolic links that are followed on one way, as in the kernel."""


class Inspector:
    """Looks at files once. What it says goes on being true, because only root can change what it calls root's."""

    def __init__(self) -> None:
        self._good: Set[str] = set()
        """What was looked at and is root's alone; no links."""
        self._devices: Dict[int, bool] = {}
        """Number of a mounted file system → whether a user mounted it."""

    def culprit(self, path: str) -> str:
        """Return which file or folder on the way to `path`, or itself, others than root can change; empty if none.

        What does not exist is good if only root could make it. Raises OSError.
        """
        waiting = _parts(os.path.abspath(path))
        here, links = "/", 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                here = os.path.dirname(here)
                continue
            there = os.path.join(here, part)
            if there in self._good:
                here = there
                continue
            try:
                status = os.lstat(there)
            except (FileNotFoundError, NotADirectoryError):
                return ""
            if not stat.S_ISLNK(status.st_mode):
                if is_others(there, status, in_between=True) or self._is_a_users(status.st_dev):
                    return there
                self._good.add(there)
                here = there
                continue
            links += 1
            if status.st_uid != 0 or links > LINKS:
                return there
            target = os.readlink(there)
            here = "/" if os.path.isabs(target) else here
            waiting.extend(_parts(target))
        return ""

    def culprit_below(self, folders: Iterable[str]) -> str:
        """Return which file or folder at or below `folders` others than root can change; empty if none.

        Takes about 10 µs for each. Raises OSError.
        """
        waiting = list(folders)
        seen: Set[str] = set()
        while waiting:
            folder = os.path.realpath(waiting.pop())
            if folder in seen or not os.path.isdir(folder):
                continue
            seen.add(folder)
            found = self.culprit(folder)
            if found:
                return found
            for path, is_folder in _entries(folder):
                found = self._entry(path)
                if found:
                    return found
                if is_folder:
                    waiting.append(path)
        return ""

    def _is_a_users(self, device: int) -> bool:
        """Say whether the file system is one that a user has mounted, and so can say what it likes. Raises OSError."""
        if device not in self._devices:
            self._devices = mounted()
        return self._devices.get(device, False)

    def _entry(self, path: str) -> str:
        """Judge something in a folder that is good itself."""
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            return self.culprit(path)
        return path if is_others(path, status, in_between=False) else ""


def mounted() -> "Dict[int, bool]":
    """Return the number of each file system, and whether a user mounted it, as FUSE lets her. Raises OSError."""
    found = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, source = line.rpartition(" - ")
            major, _, minor = fields.split(" ")[2].partition(":")
            users = re.findall(r"[ ,]user_id=(\d+)", source) if source.startswith("fuse") else []
            found[os.makedev(int(major), int(minor))] = any(user != "0" for user in users)
    return found


def is_others(path: str, status: os.stat_result, *, in_between: bool) -> bool:
    """Say whether others than root can change a file or folder, which is no link.

    A sticky folder that is only on the way protects what is root's in it. Where an access control list lets somebody
    write, the mode shows that as the group's right.
    """
    if status.st_uid != 0:
        return True
    if in_between and stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return False
    if status.st_mode & stat.S_IWGRP and (status.st_gid != 0 or has_list(path)):
        return True
    return bool(status.st_mode & stat.S_IWOTH)


def has_list(path: str) -> bool:
    """Say whether a file or folder has an access control list. Raises OSError, but not where there are none."""
    try:
        os.getxattr(path, "system.posix_acl_access", follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise
    return True


def _parts(path: str) -> List[str]:
    """Return the names on a way, the first one last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _entries(folder: str) -> "Iterator[Tuple[str, bool]]":
    """Yield (path, whether it is a folder or leads to one) of what is in `folder`."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.path, entry.is_dir()
