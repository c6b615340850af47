"""Reading the small files that a configuration names, so that nobody can make root read another one.

Root reads them and hands what is in them to an instance's user: were a part of the path hers to swap, she could have
any file of the system read to her. So no component may be a symbolic link, the file has one name only, and it belongs
to somebody who is trusted with it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection

MAX_BYTES = 4096


class AdminFileError(Exception):
    """A file that was named in the configuration cannot be used; the text is a sentence that says why."""


def read_admin_file(path: str, owners: Collection[int], max_bytes: int = MAX_BYTES) -> str:
    """Return the text of the file at the absolute `path`; blocks for the time of one small read.

    `owners` are the ids of the users it may belong to, and nobody else may be able to write it. Raises AdminFileError.
    """
    try:
        descriptor = _open_without_links(path)
    except OSError as error:
        raise AdminFileError(f"cannot read {path}: {_why(error)}") from error
    try:
        _check(path, os.fstat(descriptor), owners)
        data = read_all(descriptor, max_bytes + 1)
    except OSError as error:
        raise AdminFileError(f"cannot read {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(data) > max_bytes:
        raise AdminFileError(f"{path} is larger than {max_bytes} bytes: it cannot be what is meant")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise AdminFileError(f"{path} is not UTF-8 text") from error


def read_all(descriptor: int, limit: int) -> bytes:
    """Return what is in the open file, at most `limit` bytes of it. Raises OSError."""
    data = b""
    while len(data) < limit and (more := os.read(descriptor, limit - len(data))):
        data += more
    return data


def _why(error: OSError) -> str:
    if isinstance(error, NotADirectoryError) or error.errno == errno.ELOOP:
        return "its path goes through a symbolic link, or a file: give the real path"
    return str(error.strerror)


def _open_without_links(path: str) -> int:
    """Return a descriptor of the file at `path`, no component of which is a symbolic link. Raises OSError."""
    *folders, name = [part for part in path.split("/") if part]
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            there = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = there
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)


def _check(path: str, status: os.stat_result, owners: Collection[int]) -> None:
    """Raise AdminFileError if a file with this status is not to be trusted."""
    if not stat.S_ISREG(status.st_mode):
        raise AdminFileError(f"{path} is not a regular file")
    if status.st_uid not in owners:
        raise AdminFileError(f"{path} belongs to user {status.st_uid}, who is not trusted with it: chown it")
    if status.st_mode & 0o022:
        raise AdminFileError(f"{path} can be written by others than its owner: chmod go-w {path}")
    if status.st_nlink != 1:
        raise AdminFileError(f"{path} has {status.st_nlink} names (hard links): make a copy of its own")
