"""The users and groups of the system, as far as templates need them."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Protocol


class Accounts(Protocol):
    """Whom templates stand for. Look-ups may take long where accounts come over the network."""

    def members(self, unix_group: str) -> list[str]:
        """Return the names of the users of a group, those whose primary group it is too. Raises KeyError."""
        ...

    def home(self, user: str) -> str:
        """Return the home folder of `user`. Raises KeyError."""
        ...


class SystemAccounts:
    """Accounts as the C library's name service knows them."""

    def members(self, unix_group: str) -> list[str]:
        """Return the names of the users of a group, sorted. Raises KeyError."""
        group = grp.getgrnam(unix_group)
        primary = (entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == group.gr_gid)
        return sorted({*group.gr_mem, *primary})

    def home(self, user: str) -> str:
        """Return the home folder of `user`. Raises KeyError."""
        return pwd.getpwnam(user).pw_dir


def own_name(uid: int) -> str:
    """Return the name of the account `uid`, or its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def whose_daemon(path: Path) -> int:
    """Return as whom a daemon most likely reads the file at `path`: as root if root asks, else as the file's owner."""
    own = os.geteuid()
    try:
        return own if own == 0 else path.stat().st_uid
    except OSError:
        return own
