"""Writing files so that a crash, a full disk or somebody else's symlink cannot do harm."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """Replace `path` by a file with `data`: a reader sees the old or the new content, whole.

    The folder must not be writable by anybody who is not trusted with the file. `owner` is (uid, gid).
    Raises OSError; the old file then still stands and no temporary one is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123  (a descriptor, not a path)
            file.write(data)
            file.flush()
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the renames and removals in `folder` durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderError(Exception):
    """A folder that the daemon needs cannot be made, or is not safe to write in; the text says the fix."""


def ensure_folder(path: Path, mode: int, group: int = -1) -> None:
    """Make `path`, and what is missing above it, a folder that only the daemon can change.

    `mode` is set on the folder itself; `group` is a gid, -1 leaves it. Raises FolderError.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise FolderError(f"The folder {path} cannot be used: {error.strerror}.") from error
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise FolderError(
                f"The folder {path} belongs to uid {found.st_uid}, not to jlabd (uid {os.geteuid()}): "
                f"remove it or give it to the right owner."
            )
        os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, mode)
    except OSError as error:
        raise FolderError(f"The folder {path} cannot be prepared: {error.strerror}.") from error
    finally:
        os.close(descriptor)
