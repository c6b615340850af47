"""Users and groups by name. The system's look-up may ask a directory server, so it never runs in the event loop."""

from __future__ import annotations

import grp
import os
import pwd

from jlabd.core.launch import Account
from jlabd.processes import selinux
from jlabd.threads import in_thread_once


class UnknownAccount(Exception):  # noqa: N818  (reads as what is the case; it is caught by this name)
    """There is no such user or group; the message says which, and the fix."""


async def lookup(user: str | None, group: str | None) -> Account:
    """Return the account `user` with `group` as its main group (None: the user's own); no user is the daemon's own.

    Raises UnknownAccount, OSError. May take as long as the directory server.
    """
    return await in_thread_once(("account", user, group), lambda: _lookup(user, group))


def _lookup(user: str | None, group: str | None) -> Account:
    entry = _own_entry() if user is None else _entry(user)
    gid = entry.pw_gid if group is None else _gid(group)
    groups = _groups(user, entry.pw_name, gid)
    return Account(
        name=entry.pw_name,
        uid=entry.pw_uid,
        gid=gid,
        groups=groups,
        home=entry.pw_dir or "/",
        shell=entry.pw_shell or "/bin/sh",
        context=_context(entry.pw_name, groups),
    )


def _context(name: str, groups: tuple[int, ...]) -> str:
    try:
        return selinux.login_context(name, groups)
    except selinux.NoContextError:
        raise UnknownAccount(
            f"SELinux has no context for user “{name}” to log in with: see `semanage login -l`, and give her another "
            f"SELinux user (semanage login -a -s unconfined_u {name})."
        ) from None


def _groups(user: str | None, name: str, gid: int) -> tuple[int, ...]:
    if user is None:
        return tuple(sorted({gid, *os.getgroups()}))
    return tuple(sorted({gid, *os.getgrouplist(name, gid)}))


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except (KeyError, ValueError):
        raise UnknownAccount(
            f"There is no user “{user}” on this machine: create the account (useradd {user}) or correct `user`."
        ) from None


def _own_entry() -> pwd.struct_passwd:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid)
    except KeyError:  # usual in containers that run as a number
        fields = (str(uid), "x", uid, os.getegid(), "", os.environ.get("HOME", "/"), "/bin/sh")
        return pwd.struct_passwd(fields)


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise UnknownAccount(
            f"There is no group “{group}” on this machine: create it (groupadd {group}) or correct `group`."
        ) from None
