"""Where SELinux keeps jlabd in a domain of its own (jlabd_t): the context that a user's labs are to have.

It is that of a login by ssh, found as pam_selinux finds it: the account's SELinux user and range from `seusers`, then
the first context for one that comes from sshd which the policy in force knows. So a lab may do what its user may do in
a terminal, whatever jlabd itself may do.
"""

from __future__ import annotations

import errno
import grp
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

OURS = "jlabd_t"
"""The domain that jlabd-selinux gives the daemon. In any other one, labs simply stay where the daemon is."""

_DOOR = ("system_r", "sshd_t")
"""Role and type of the program that lets people in, as the lists of default contexts name it."""
_CONFIG = Path("/etc/selinux")
_CHECK = Path("/sys/fs/selinux/context")


class NoContextError(Exception):
    """Nobody could log in as this user: a lab of hers would have to stay where jlabd is, with what jlabd may do."""


def login_context(user: str, groups: Collection[int]) -> str:
    """Return the context in which a login would put `user`, "" where jlabd has no domain of its own.

    `groups` are the ids of her groups. Raises NoContextError, OSError.
    """
    if own_type() != OURS:
        return ""
    context = first_valid(_CONFIG / policy_name(_read(_CONFIG / "config")), user, groups, _is_valid)
    if not context:
        raise NoContextError(user)
    return context


def own_type() -> str:
    """Return the type of this process's context, "" without SELinux."""
    try:
        context = Path("/proc/self/attr/current").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return (context.split(":") + [""] * 3)[2].strip("\0\n")


def policy_name(config: str) -> str:
    """Return the name of the policy that /etc/selinux/config speaks of: the folder below /etc/selinux."""
    lines = (line.partition("=") for line in config.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == "SELINUXTYPE"), "targeted")


def first_valid(policy: Path, user: str, groups: Collection[int], is_valid: Callable[[str], bool]) -> str:
    """Return the first context of a login that `is_valid`, with the files of the folder `policy`. Raises OSError."""
    name, level = selinux_user(_read(policy / "seusers"), user, groups)
    contexts = policy / "contexts"
    for path in (contexts / "users" / name, contexts / "default_contexts"):
        for role, kind in _destinations(_read(path)):
            context = ":".join([name, role, kind, *([level] if level else [])])
            if is_valid(context):
                return context
    return ""


def selinux_user(seusers: str, user: str, groups: Collection[int]) -> tuple[str, str]:
    """Return (SELinux user, range) of an account: by its name, else by a group of hers, else the default."""
    lines = [line.split("#")[0].strip().split(":", 2) for line in seusers.splitlines()]
    entries = {line[0]: (line[1], (*line, "")[2]) for line in lines if len(line) > 1}
    by_group = (entry for key, entry in entries.items() if key.startswith("%") and _gid(key[1:]) in groups)
    return entries.get(user) or next(by_group, None) or entries.get("__default__", ("", ""))


def _destinations(contexts: str) -> Iterator[tuple[str, str]]:
    """Yield (role, type) of the contexts that the list has for one who comes from `_DOOR`, in order."""
    for line in contexts.splitlines():
        words = [tuple(word.split(":")[:2]) for word in line.split()]
        if words and words[0] == _DOOR:
            yield from (word for word in words[1:] if len(word) == 2)


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        return None


def _read(path: Path) -> str:
    """Return the text of a file, "" if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _is_valid(context: str) -> bool:
    """Return whether the policy in force knows the context. Raises OSError."""
    descriptor = os.open(_CHECK, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(descriptor, context.encode() + b"\0")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    finally:
        os.close(descriptor)
    return True
