"""Why a process could not be started, in sentences that end with the fix."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, assert_never

from jlabd.core.launch import PRIVATE_FOLDERS
from jlabd.processes.child import NO_INTERPRETER, Report, Stage

if TYPE_CHECKING:
    from jlabd.core.launch import Launch

_LASTING = frozenset(
    {
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.ENOEXEC,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.E2BIG,
        errno.EINVAL,
        errno.ELIBBAD,
    }
)
"""Errors that do not go away by themselves."""


class SpawnError(Exception):
    """No process came to be. `reason` is a sentence with the fix; `permanent`: trying again unchanged is useless."""

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


class ViewRefusedError(SpawnError):
    """The process could not be given its own view of the folders; without one it could have been started."""


def refused_by_system(error: OSError) -> SpawnError:
    """Return why this process could not even fork."""
    match error.errno:
        case errno.EMFILE | errno.ENFILE:
            fix = "jlabd has no file descriptors left: raise its limit (LimitNOFILE= in the unit, or ulimit -n)"
        case errno.EAGAIN:
            fix = "the system refuses another process: raise the limit (TasksMax= in the unit, or ulimit -u)"
        case errno.ENOMEM:
            fix = "there is no memory left for another process: stop something or add memory"
        case _:
            fix = f"the system refuses: {_words(error.errno or 0)}"
    return SpawnError(f"Cannot start a process now; {fix}.", permanent=False)


def refused_by_child(report: Report, launch: Launch) -> SpawnError:
    """Return why the forked child did not become the program."""
    kind = ViewRefusedError if report.stage is Stage.VIEW and report.errno else SpawnError
    return kind(_reason(report, launch), permanent=_is_permanent(report))


def _is_permanent(report: Report) -> bool:
    if report.stage in (Stage.CGROUP, Stage.DESCRIPTORS):
        return False
    return report.errno in _LASTING


def _reason(report: Report, launch: Launch) -> str:
    if report.errno == 0:
        return f"Starting failed in an unforeseen way ({report.stage}): {report.path}. Please report this."
    match report.stage:
        case Stage.SIGNALS | Stage.SESSION | Stage.PRIORITY | Stage.DESCRIPTORS | Stage.PRIVILEGES | Stage.VIEW:
            return f"Cannot prepare the process ({report.stage}): {_words(report.errno)}."
        case Stage.CGROUP:
            return (
                f"Cannot join the instance's cgroup: {_words(report.errno)}. Check Delegate=yes and TasksMax= of jlabd."
            )
        case Stage.LIMITS:
            return (
                f"Cannot allow {launch.open_files} open files: {_words(report.errno)}. "
                "Lower limits.open_files, or raise jlabd's own limit (LimitNOFILE= in the unit)."
            )
        case Stage.PRIVATE_TMP:
            return _tmp_refused(report)
        case Stage.CONTEXT:
            return _context_refused(report.errno, launch)
        case Stage.USER:
            return _user_refused(report.errno, launch)
        case Stage.FOLDER:
            return _folder_refused(report, launch)
        case Stage.PROGRAM:
            return _program_refused(report, launch)
        case _:
            assert_never(report.stage)


def _tmp_refused(report: Report) -> str:
    what = f"Cannot give the instance a {report.path or PRIVATE_FOLDERS[0]} of its own"
    if report.errno == errno.EPERM:
        return (
            f"{what}: jlabd may not mount anything (it runs as uid {os.geteuid()}, or in a container or a unit that "
            "forbids it). Run it as root with CAP_SYS_ADMIN, or set private_tmp = false."
        )
    return f"{what}: {_words(report.errno)}."


def _context_refused(number: int, launch: Launch) -> str:
    account = launch.account
    return (
        f"SELinux does not let jlabd start programs as {account.context if account else 'another'}: {_words(number)}. "
        f"`jlabctl doctor` says what it refused; `semanage login -l` which context {_who(launch)} gets."
    )


def _user_refused(number: int, launch: Launch) -> str:
    name = launch.account.name if launch.account else "itself"
    match number:
        case errno.EPERM:
            return (
                f"jlabd may not switch to user {name}, because it runs as uid {os.geteuid()}: "
                "run jlabd as root, or leave `user` and `group` out."
            )
        case errno.EINVAL:
            return f"The ids of user {name} do not exist in this container: map them, or correct `user`."
        case _:
            return f"Cannot switch to user {name}: {_words(number)}."


def _folder_refused(report: Report, launch: Launch) -> str:
    who = _who(launch)
    match report.errno:
        case errno.ENOENT:
            return f"root_dir {launch.cwd} does not exist: create it for {who}, or correct `root_dir`."
        case errno.ENOTDIR:
            return f"root_dir {launch.cwd} is not a folder: correct `root_dir`."
        case errno.EACCES | errno.EPERM:
            where = report.blocker or launch.cwd
            return (
                f"{who} may not enter root_dir {launch.cwd}: allow it on {where} (chown or chmod), "
                "or correct `root_dir`."
            )
        case _:
            return f"root_dir {launch.cwd} cannot be entered: {_words(report.errno)}."


def _program_refused(report: Report, launch: Launch) -> str:
    who, program = _who(launch), report.path or launch.argv[0]
    match report.errno:
        case errno.ENOENT if report.blocker == NO_INTERPRETER:
            return (
                f"The program {program} names an interpreter in its first line (#!) that does not exist: reinstall it."
            )
        case errno.ENOENT | errno.ENOTDIR if "/" not in launch.argv[0]:
            path = launch.env.get("PATH", os.defpath)
            return f"There is no program “{launch.argv[0]}” in PATH ({path}): install it, or give its full path."
        case errno.ENOENT | errno.ENOTDIR:
            return f"The program {program} does not exist: install it, or correct `venv` or `command`."
        case errno.EACCES if report.blocker:
            return (
                f"{who} cannot reach the program {program}, because {report.blocker} does not let her in: "
                f"open that folder (chmod o+x), or install the program elsewhere."
            )
        case errno.EACCES | errno.EPERM | errno.EISDIR:
            return (
                f"{who} may not run {program}: make it an executable file (chmod a+rx), not on a noexec file system."
                f"{_or_selinux(launch)}"
            )
        case errno.ENOEXEC | errno.ELIBBAD:
            return f"{program} is not a program for this machine (another architecture, or a script without #! line)."
        case errno.E2BIG:
            return f"The arguments and environment of {program} are too long: shorten `args` or `env`."
        case errno.EAGAIN:
            return f"{who} has too many processes already: end some, or raise the limit (nproc in limits.conf)."
        case _:
            return f"The program {program} cannot be run: {_words(report.errno)}."


def _or_selinux(launch: Launch) -> str:
    """Return what else may be the cause: the move into the user's context is made at the very end."""
    if launch.account is None or not launch.account.context:
        return ""
    return f" If it is one, SELinux refused to start it as {launch.account.context}: see `jlabctl doctor`."


def _who(launch: Launch) -> str:
    return f"User {launch.account.name}" if launch.account else "jlabd's own user"


def _words(number: int) -> str:
    return os.strerror(number)
