"""What one process is started with: the contract between the rooms that plan a start and the rooms that perform it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LISTEN_FD = 3
"""The descriptor of the instance's listening socket in its server (sd_listen_fds(3): SD_LISTEN_FDS_START)."""

NOTIFY_FD = 4
"""The write end of a pipe on which a launcher may say in one UTF-8 sentence why it cannot run (status EX_CONFIG)."""

EX_CONFIG = 78
"""Exit status of a launcher that wrote such a sentence: trying again without a change is useless (sysexits.h)."""

PRIVATE_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108  (named to be hidden, not to be used)
"""Folders that a `Launch.private_tmp` gets empty ones of its own in place of."""

MARK_VARIABLE = "JLABD_MARK"
"""Environment variable by which every process of an instance can be told from the others."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user as the system knows her: ids for the kernel, names and home for the environment."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups, `gid` among them."""
    home: str
    shell: str
    context: str = ""
    """Her SELinux context, in which her programs are started; empty: that of the daemon."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One program to start, described completely: the process gets this environment and nothing of the daemon's."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: str
    account: Account | None
    """Switch to this account (ids and groups); None stays who the daemon is."""
    umask: int
    open_files: int | None = None
    no_new_privileges: bool = False
    private_tmp: bool = False
    view: tuple[str, str] | None = None
    """(what, where): the process, and nobody else, sees the folder `what` in the place of the folder `where`."""
    mark: str = ""
    """Value of MARK_VARIABLE, unique per runtime folder and instance."""
