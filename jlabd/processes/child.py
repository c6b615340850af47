"""The forked child, from fork to exec: a straight line of system calls that ends in the program or in a report.

Nothing here may run the daemon's own business: no exit handlers, no exceptions that leave, no logging. What fails is
written to a pipe as one `Report`; a pipe that closes without one means that the program runs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import resource
import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from jlabd.core.launch import LISTEN_FD, NOTIFY_FD, PRIVATE_FOLDERS
from jlabd.processes import privileges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jlabd.core.launch import Account

NO_INTERPRETER = "#!"
"""Stands as `Report.blocker` when the script is there and the interpreter that it names is not."""

_DEFAULTABLE = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
_LIFTED = 16
"""Lowest number for descriptors on their way, clear of those that the program gets."""
_REPORT_LIMIT = 3500
"""Bytes; below PIPE_BUF, so that a report is written whole."""


class Stage(StrEnum):
    """The steps of a start, in order, as reports name them."""

    SIGNALS = "signals"
    DESCRIPTORS = "descriptors"
    CGROUP = "cgroup"
    PRIORITY = "priority"
    LIMITS = "limits"
    SESSION = "session"
    PRIVATE_TMP = "private tmp"
    CONTEXT = "SELinux context"
    VIEW = "view"
    USER = "user"
    FOLDER = "folder"
    PRIVILEGES = "privileges"
    PROGRAM = "program"


@dataclass(frozen=True, slots=True)
class Report:
    """What stopped a start."""

    stage: Stage
    errno: int
    path: str = ""
    """The file or folder that the system refused, or the words of an unexpected error."""
    blocker: str = ""
    """The folder on the way to `path` that lets nobody through, or NO_INTERPRETER."""

    def encode(self) -> bytes:
        """Return the form that travels through the pipe."""
        path, blocker = os.fsencode(self.path)[:_REPORT_LIMIT], os.fsencode(self.blocker)
        return b"\0".join((self.stage.encode(), str(self.errno).encode(), path, blocker))[: _REPORT_LIMIT + 500]

    @classmethod
    def decode(cls, data: bytes) -> Report:
        """Return the report that `encode` made."""
        stage, number, path, blocker = (*data.split(b"\0"), b"", b"")[:4]
        return cls(Stage(stage.decode()), int(number), os.fsdecode(path), os.fsdecode(blocker))


@dataclass(slots=True)
class Plan:
    """Everything that the child needs, made ready before the fork."""

    programs: tuple[bytes, ...]
    """Paths to try in order."""
    argv: tuple[bytes, ...]
    env: dict[bytes, bytes]
    cwd: str
    """Empty: stay where the daemon is."""
    account: Account | None
    """Whom to become; None: nobody else."""
    umask: int
    open_files: int | None
    ordinary_files: tuple[int, int] | None
    """Limits (soft, hard) if there are no `open_files`; None: the daemon's own."""
    realtime_limit: int | None
    """Microseconds; the mark by which the process and its descendants are known (see `marks`)."""
    report: int
    output: int
    listen: int | None
    notify: int | None
    cgroup: int | None
    """Folder of the cgroup to join."""
    private_tmp: bool
    view: tuple[str, str] | None
    """Folder to be seen, and in whose place."""
    no_new_privileges: bool


def become(plan: Plan) -> NoReturn:
    """Turn this forked child into the planned program, or report why not and end with status 127. Never returns."""
    stage = Stage.SIGNALS
    try:
        for stage, step in STEPS:  # noqa: B007  (the handler below reads it)
            step(plan)
    except BaseException as error:  # noqa: BLE001  (a forked child has nobody to raise to; the parent raises it)
        os.write(plan.report, _report(stage, error).encode())
    finally:
        os._exit(127)


def _report(stage: Stage, error: BaseException) -> Report:
    if not isinstance(error, OSError) or error.errno is None:
        return Report(stage, 0, repr(error))
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    return Report(stage, error.errno, path, _blocker(path, error.errno) if path else "")


def _blocker(path: str, number: int) -> str:
    """Return why `path` was refused, as the new user sees it."""
    if number == errno.ENOENT:
        return NO_INTERPRETER if os.path.exists(path) else ""  # noqa: PTH110  (no imports after a fork)
    parts = path.split("/")
    if number == errno.EACCES and path.startswith("/"):
        folders = ("/".join(parts[:depth]) or "/" for depth in range(1, len(parts)))
        return next((folder for folder in folders if not os.access(folder, os.X_OK)), "")
    return ""


def _restore_signals(_plan: Plan) -> None:
    """Undo what Python and the daemon did to signals; the parent has blocked all of them around the fork."""
    gc.disable()
    for number in _DEFAULTABLE:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _arrange_descriptors(plan: Plan) -> None:
    """Leave the program 0 (nothing to read), 1 and 2 (its log), 3 and 4 if given; everything else is closed.

    Closing now and not at exec matters: a child that hangs must not keep the daemon's connections open.
    """
    given = [plan.report, plan.output, plan.listen, plan.notify, plan.cgroup]
    kept = {number for number in given if number is not None}
    _close({0, 1, 2} - kept)  # the next line needs a free number, also when the daemon has none left
    _close({int(name) for name in os.listdir("/proc/self/fd")} - kept)  # noqa: PTH208  (no imports after a fork)
    plan.report, plan.output = _lift(plan.report), _lift(plan.output)
    plan.listen, plan.notify, plan.cgroup = map(_lift_given, (plan.listen, plan.notify, plan.cgroup))
    _close(kept | set(range(_LIFTED)))
    os.dup2(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), 0)
    os.set_inheritable(0, True)
    os.dup2(plan.output, 1)
    os.dup2(plan.output, 2)
    if plan.listen is not None:
        os.dup2(plan.listen, LISTEN_FD)
    if plan.notify is not None:
        os.dup2(plan.notify, NOTIFY_FD)


def _lift(number: int) -> int:
    return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _LIFTED)


def _lift_given(number: int | None) -> int | None:
    return None if number is None else _lift(number)


def _close(numbers: Iterable[int]) -> None:
    for number in numbers:
        with contextlib.suppress(OSError):
            os.close(number)


def _join_cgroup(plan: Plan) -> None:
    """Join while still the daemon's user: the new one may not."""
    if plan.cgroup is None:
        return
    procs = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=plan.cgroup)
    os.write(procs, b"0")
    os.close(procs)


def _restore_priority(_plan: Plan) -> None:
    """Give back the precedence that the daemon may have for itself: a protected lab would starve the others."""
    if os.getpriority(os.PRIO_PROCESS, 0) < 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    with contextlib.suppress(PermissionError):  # a daemon that switched users itself, which nobody protects
        adjustment = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        if int(os.read(adjustment, 16)) < 0:
            os.write(adjustment, b"0")
        os.close(adjustment)


def _set_limits(plan: Plan) -> None:
    files = plan.ordinary_files if plan.open_files is None else (plan.open_files, plan.open_files)
    if files is not None:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, files)
        except ValueError as error:  # Python's word for “you may not”
            raise OSError(errno.EPERM, str(error)) from error
    if plan.realtime_limit is not None:
        # Refused when the daemon runs below a lower one, as a lab of another daemon: the environment mark remains.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_RTTIME, (plan.realtime_limit, plan.realtime_limit))


def _start_session(_plan: Plan) -> None:
    os.setsid()


def _hide_tmp(plan: Plan) -> None:
    """Make the folders of its own while still allowed to."""
    if plan.private_tmp:
        privileges.cover(PRIVATE_FOLDERS)


def _choose_context(plan: Plan) -> None:
    """Say in which SELinux context the program is to be: while /proc/self is still ours, which it is not afterwards."""
    if plan.account is not None and plan.account.context:
        choice = os.open("/proc/self/attr/exec", os.O_WRONLY | os.O_CLOEXEC)
        os.write(choice, plan.account.context.encode())
        os.close(choice)


def _change_view(plan: Plan) -> None:
    if plan.view is not None:
        privileges.see_instead(*plan.view)


def _switch_user(plan: Plan) -> None:
    if plan.account is not None:
        os.setgroups(plan.account.groups)
        os.setresgid(plan.account.gid, plan.account.gid, plan.account.gid)
        os.setresuid(plan.account.uid, plan.account.uid, plan.account.uid)
    os.umask(plan.umask)


def _enter_folder(plan: Plan) -> None:
    """Enter as the new user, so that nobody gets in, and no remote folder is asked, with the daemon's rights."""
    if plan.cwd:
        os.chdir(plan.cwd)


def _renounce_privileges(plan: Plan) -> None:
    if plan.no_new_privileges:
        privileges.renounce_new_privileges()


def _execute(plan: Plan) -> None:
    if plan.listen is not None:
        plan.env[b"LISTEN_PID"] = str(os.getpid()).encode()
    failure: OSError | None = None
    for program in plan.programs:
        try:
            os.execve(program, plan.argv, plan.env)  # noqa: S606  (starting programs is what we are for)
        except OSError as error:
            if len(plan.programs) == 1 or os.path.exists(program):  # noqa: PTH110  (no imports after a fork)
                failure = failure or error  # of those in PATH that are there, the first tells why
    raise failure or OSError(errno.ENOENT, os.strerror(errno.ENOENT))


STEPS: tuple[tuple[Stage, Callable[[Plan], None]], ...] = (
    (Stage.SIGNALS, _restore_signals),
    (Stage.DESCRIPTORS, _arrange_descriptors),
    (Stage.CGROUP, _join_cgroup),
    (Stage.PRIORITY, _restore_priority),
    (Stage.LIMITS, _set_limits),
    (Stage.SESSION, _start_session),
    (Stage.PRIVATE_TMP, _hide_tmp),
    (Stage.VIEW, _change_view),
    (Stage.CONTEXT, _choose_context),
    (Stage.USER, _switch_user),
    (Stage.FOLDER, _enter_folder),
    (Stage.PRIVILEGES, _renounce_privileges),
    (Stage.PROGRAM, _execute),
)
