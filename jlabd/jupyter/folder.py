"""The private folder of one incarnation: made by the daemon, then the instance's user's.

The daemon writes into it only while it is still its own. Later it takes out nothing but its own settings file
(`remove_untouched`): whatever else lies there is removed by a process of that user (`removal`), after which the daemon
removes the empty folder.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat

from jlabd.core.launch import Account, Launch

SETTINGS_FILE = "settings.json"

_EMPTY = """
chmod u+rwx "$1" && cd "$1" || exit
rm -rf -- ./* ./.[!.]* ./..?* && exit
chmod -R u+rwX . ; rm -rf -- ./* ./.[!.]* ./..?*
"""


def make_own_folder(path: str, mode: int) -> str:
    """Make `path` a folder of the daemon's account with exactly `mode`, and return it.

    Nobody else may be able to write the folder above it. Raises OSError, also for a symlink or another's folder.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode & 0o700)  # noqa: PTH102  (the exact mode comes by the descriptor)
    descriptor = _open_folder(path)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(1, "belongs to another user", path)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
    return path


def make_folder(labs_dir: str, name: str, incarnation: int, account: Account | None, settings: bytes) -> str:
    """Make the private folder of an incarnation with `settings` in it, and return its path.

    `labs_dir` is the daemon's own; `account` gets the folder (None: it stays the daemon's own). What an earlier life
    left under the same name is renamed, to be found by `list_folders`. Raises OSError; nothing new is left behind then.
    """
    base = f"{name}.{incarnation}"
    labs = _open_folder(labs_dir)
    try:
        _set_aside(labs, base)
        os.mkdir(base, 0o700, dir_fd=labs)
        try:
            _fill(labs, base, account, settings)
        except BaseException:
            # Handing over is the last step, so the folder is still ours alone.
            _remove_own(labs, base)
            raise
    finally:
        os.close(labs)
    return f"{labs_dir}/{base}"


def list_folders(labs_dir: str) -> tuple[str, ...]:
    """Return the paths of all incarnations' folders, also of those that were set aside. Raises OSError."""
    with os.scandir(labs_dir) as entries:
        return tuple(sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False)))


def owner_of(folder: str) -> Account:
    """Return whom `folder` belongs to, with just the ids that `removal` needs. Raises OSError."""
    status = os.lstat(folder)
    return Account(str(status.st_uid), status.st_uid, status.st_gid, (status.st_gid,), "/", "/bin/sh")


def remove_untouched(folder: str) -> bool:
    """Remove `folder` if it holds at most the settings, and say whether it is gone. May hang: she can mount there.

    Nothing but an entry of that name in that very folder can be hit, even if it is a link: nobody but the daemon can
    write the folder above. Raises OSError if that one cannot be opened.
    """
    parent, base = os.path.split(folder)
    labs = _open_folder(parent)
    try:
        _remove_own(labs, base)
    finally:
        os.close(labs)
    return not os.path.lexists(folder)


def removal(folder: str, account: Account | None) -> Launch:
    """Return the process that empties `folder` as its user; then the daemon removes the folder itself (os.rmdir)."""
    return Launch(
        argv=("/bin/sh", "-c", _EMPTY, "sh", folder),
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        account=account,
        umask=0o077,
    )


def _open_folder(path: str, dir_fd: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)


def _set_aside(labs: int, base: str) -> None:
    """Rename what stands at `base`, if anything does: safe, because only the daemon can write the folder above."""
    with contextlib.suppress(FileNotFoundError):
        os.lstat(base, dir_fd=labs)
        os.rename(base, f".{base}.{secrets.token_hex(4)}.old", src_dir_fd=labs, dst_dir_fd=labs)


def _fill(labs: int, base: str, account: Account | None, settings: bytes) -> None:
    """Write the settings into the new folder, then hand both to `account`. Raises OSError."""
    folder = _open_folder(base, dir_fd=labs)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(SETTINGS_FILE, flags, 0o400, dir_fd=folder)
        with open(descriptor, "wb") as file:  # noqa: PTH123  (a descriptor, not a path)
            file.write(settings)
            file.flush()
            os.fchmod(descriptor, stat.S_IRUSR)
            if account is not None:
                os.fchown(descriptor, account.uid, account.gid)
        os.fchmod(folder, 0o700)
        if account is not None:
            os.fchown(folder, account.uid, account.gid)
    finally:
        os.close(folder)


def _remove_own(labs: int, base: str) -> None:
    """Remove the folder `base` with the settings in it; if more is in it, or something fails, it stays."""
    with contextlib.suppress(OSError):
        folder = _open_folder(base, dir_fd=labs)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(SETTINGS_FILE, dir_fd=folder)
        finally:
            os.close(folder)
        os.rmdir(base, dir_fd=labs)
