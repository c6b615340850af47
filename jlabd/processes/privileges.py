"""System calls for the forked child that Python offers only from 3.12 on, or not at all.

All of it is made ready when this module is imported: a forked child may import nothing.
"""

from __future__ import annotations

import ctypes
import os

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_NOSUID = 0x2
_MS_NODEV = 0x4
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000
_PR_SET_NO_NEW_PRIVS = 38

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_LIBC.unshare.argtypes = (ctypes.c_int,)
_LIBC.prctl.argtypes = (ctypes.c_int, *([ctypes.c_ulong] * 4))


def renounce_new_privileges() -> None:
    """Let no program that this process or a descendant of it executes give rights (sudo, file capabilities)."""
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "")


def cover(folders: tuple[str, ...]) -> None:
    """Put an empty folder in memory over each of `folders`, for this process and its descendants. Raises OSError.

    What others mount later is still seen, and the coverings end with the last process that sees them: nothing is left
    to be cleaned up, however all of this ends. What they hold counts as memory of who wrote it.
    """
    _check(_LIBC.unshare(_CLONE_NEWNS), "")
    _keep_to_oneself()
    for folder in folders:
        path = os.fsencode(folder)
        _check(_LIBC.mount(b"tmpfs", path, b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=1777"), folder)


def see_instead(what: str, where: str) -> None:
    """Show the folder `what` in the place of `where`, to this process and its descendants only. Raises OSError.

    An ordinary user needs a namespace of users for that, in which she stays who she is.
    """
    uid, gid = os.geteuid(), os.getegid()
    if _LIBC.unshare(_CLONE_NEWNS) != 0:
        if uid == 0:
            _check(-1, "mount namespace")
        _check(_LIBC.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "user namespace")
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    _keep_to_oneself()
    _check(_LIBC.mount(os.fsencode(what), os.fsencode(where), None, _MS_BIND, None), where)


def _keep_to_oneself() -> None:
    """Let others not see what is mounted from here on; what they mount is still seen."""
    _check(_LIBC.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None), "")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _check(result: int, path: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
