"""A lab that was just forked from a warm parent: what it does between its birth and JupyterLab.

It says `born` to the daemon, which learns from the kernel who says so, and waits for its plan: JSON in a file, and with
it the descriptors that a server which is started cold inherits. The steps are those of jlabd's own children
(processes/child.py), reported alike: what fails is one message `stage NUL errno NUL path NUL blocker`; a socket that
closes without one means that the lab runs. One that begins with `cold` says why it starts JupyterLab by executing
Python anew after all.

Runs under the Python of somebody else's environment: 3.8 or newer, standard library only.
"""

import array
import contextlib
import ctypes
import gc
import locale
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import time
from typing import Any, Dict, List, NoReturn

LISTEN_FD, NOTIFY_FD = 3, 4
LARGEST_MESSAGE = 4096
DESCRIPTORS = 5

PR_SET_DUMPABLE = 4
PR_SET_MM, PR_SET_MM_MAP = 35, 14
PR_SET_NO_NEW_PRIVS = 38

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
LIBC.sbrk.argtypes = (ctypes.c_long,)
LIBC.sbrk.restype = ctypes.c_void_p


def live(channel: socket.socket, lab: Any, captured: Any) -> None:
    """Become the lab that the daemon has planned."""
    stage = "signals"
    try:
        channel.send(b"born")
        plan, descriptors = receive(channel)
        for stage, step in STEPS:  # noqa: B007  (the handler below reads it)
            step(plan, descriptors)
        stage = "program"
        reason = settle(captured) or why_not_warm()
        if reason:
            channel.send(b"cold\0" + reason.encode())
            execute(plan)
        show_command(plan)
    except BaseException as error:  # noqa: BLE001  (nobody is there to raise it to; the daemon raises it)
        report(channel, stage, error)
    channel.close()
    # From here on other processes of this user may look into this one, and code of hers is run: as after an exec.
    LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    add_user_site()
    sys.argv = list(plan["argv"][1:])
    lab.main(sys.argv)


def receive(channel: socket.socket) -> "tuple[Dict[str, Any], List[int]]":
    """Return the plan, and the descriptors: output, listening socket, notices, and the cgroup's folder if any.

    Ends this process if the daemon has thought better of it.
    """
    import json

    numbers = array.array("i")
    data, ancillary, _, _ = channel.recvmsg(
        LARGEST_MESSAGE, socket.CMSG_SPACE(DESCRIPTORS * numbers.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    if not data:
        os._exit(0)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(content)
    with open(numbers[0], encoding="utf-8") as file:
        file.seek(0)
        return json.load(file), list(numbers[1:])


def report(channel: socket.socket, stage: str, error: BaseException) -> NoReturn:
    """Tell the daemon what failed, and end."""
    number = error.errno if isinstance(error, OSError) and error.errno else 0
    path = getattr(error, "filename", None) if number else repr(error)
    path = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
    parts = (stage, str(number), path, blocker(path, number))
    with contextlib.suppress(OSError):
        channel.send(b"\0".join(os.fsencode(part) for part in parts)[:LARGEST_MESSAGE])
    os._exit(127)


def blocker(path: str, number: int) -> str:
    """Return the folder on the way to `path` that lets nobody through."""
    if number != 13 or not path.startswith("/"):
        return ""
    parts = path.split("/")
    folders = ("/".join(parts[:depth]) or "/" for depth in range(1, len(parts)))
    return next((folder for folder in folders if not os.access(folder, os.X_OK)), "")


def arrange_descriptors(_plan: Dict[str, Any], descriptors: List[int]) -> None:
    """Put what a server inherits into its places."""
    output, listen, notify = descriptors[:3]
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for source, target in ((null, 0), (output, 1), (output, 2), (listen, LISTEN_FD), (notify, NOTIFY_FD)):
        os.dup2(source, target)
    for number in (null, output, listen, notify):
        os.close(number)


def join_cgroup(_plan: Dict[str, Any], descriptors: List[int]) -> None:
    """Join while still the daemon's user: the new one may not."""
    for folder in descriptors[3:]:
        procs = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
        os.write(procs, b"0")
        os.close(procs)
        os.close(folder)


def set_limits(plan: Dict[str, Any], _descriptors: List[int]) -> None:
    """Set the limit of open files, and the mark (processes/marks.py)."""
    if plan["open_files"] is not None:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, tuple(plan["open_files"]))
        except ValueError as error:  # Python's word for "you may not"
            raise OSError(1, str(error)) from error
    if plan["realtime_limit"] is not None:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_RTTIME, (plan["realtime_limit"], plan["realtime_limit"]))


def start_session(_plan: Dict[str, Any], _descriptors: List[int]) -> None:
    """Leave the parent's session."""
    os.setsid()


def change_context(plan: Dict[str, Any], _descriptors: List[int]) -> None:
    """Go over to the user's SELinux context, while /proc/self is still ours; no program is executed later."""
    if plan["context"]:
        current = os.open("/proc/self/attr/current", os.O_WRONLY | os.O_CLOEXEC)
        os.write(current, plan["context"].encode())
        os.close(current)


def switch_user(plan: Dict[str, Any], _descriptors: List[int]) -> None:
    """Become the instance's user, for good."""
    if plan["uid"] is not None:
        os.setgroups(plan["groups"])
        os.setresgid(plan["gid"], plan["gid"], plan["gid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    os.umask(plan["umask"])


def enter_folder(plan: Dict[str, Any], _descriptors: List[int]) -> None:
    """Enter as the new user."""
    if plan["cwd"]:
        os.chdir(plan["cwd"])


def renounce_privileges(plan: Dict[str, Any], _descriptors: List[int]) -> None:
    """Let no program give rights, if so wished."""
    if plan["no_new_privileges"] and LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def take_environment(plan: Dict[str, Any], _descriptors: List[int]) -> None:
    """Have the planned environment and nothing else."""
    plan["env"]["LISTEN_PID"] = str(os.getpid())
    os.environ.clear()
    os.environ.update(plan["env"])


STEPS = (
    ("descriptors", arrange_descriptors),
    ("cgroup", join_cgroup),
    ("limits", set_limits),
    ("session", start_session),
    ("SELinux context", change_context),
    ("user", switch_user),
    ("folder", enter_folder),
    ("privileges", renounce_privileges),
    ("program", take_environment),
)


def why_not_warm() -> str:
    """Return why this lab would not be what a cold one is, empty if it is."""
    folder = user_site()
    if not os.path.isdir(folder):
        return ""
    shadowed = sorted(imported_names() & {entry.partition(".")[0] for entry in os.listdir(folder)})
    return f"{folder} has a {shadowed[0]} of its own" if shadowed else ""


def user_site() -> str:
    """Return the folder of the user's own packages if Python would search it, had she started it; else empty."""
    import site

    if sys.prefix != sys.base_prefix and [sys.prefix] == site.PREFIXES:
        return ""  # an environment of its own, which is how site.py tells
    return "" if os.environ.get("PYTHONNOUSERSITE") else site.getusersitepackages()


def imported_names() -> "set[str]":
    """Return the names of all packages that are imported, and of what Python itself would import at its start."""
    return {name.partition(".")[0] for name in sys.modules} | {"sitecustomize"}


def add_user_site() -> None:
    """Search the user's own packages before those of everybody, as site.py does."""
    import site

    folder = user_site()
    if not folder:
        return
    site.ENABLE_USER_SITE = True
    before = len(sys.path)
    if os.path.isdir(folder):
        site.addsitedir(folder)
    new = sys.path[before:]
    del sys.path[before:]
    common = [path for path in site.getsitepackages() if path in sys.path]
    place = min((sys.path.index(path) for path in common), default=before)
    sys.path[place:place] = new
    site.execusercustomize()


def execute(plan: Dict[str, Any]) -> NoReturn:
    """Start as a cold lab does."""
    gc.disable()
    for number in signal.Signals:
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    os.execv(plan["argv"][0], plan["argv"])  # noqa: S606


def show_command(plan: Dict[str, Any]) -> None:
    """Show in /proc and ps what this process is, and the environment by which jlabd knows it, in place of the parent's.

    Systems that cannot do so (CONFIG_CHECKPOINT_RESTORE) go on showing the parent's.
    """
    python, script, *rest = plan["argv"]
    command = b"".join(os.fsencode(word) + b"\0" for word in (python, script, "--warm", *rest))
    environment = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in plan["env"].items())
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        fields = [0, 0, 0, *file.read().rpartition(")")[2].split()]
    place = mmap.mmap(-1, len(command) + len(environment), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    place.write(command + environment)
    start = ctypes.addressof(ctypes.c_char.from_buffer(place))
    middle, end = start + len(command), start + len(command) + len(environment)
    code, data = map(int, fields[26:28]), map(int, fields[45:47])  # as proc_pid_stat(5) numbers them
    layout = (*code, *data, int(fields[47]), LIBC.sbrk(0), int(fields[28]), start, middle, middle, end, 0)
    buffer = ctypes.create_string_buffer(struct.pack("12QIi", *layout, 0, -1))
    if LIBC.prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.addressof(buffer), len(buffer) - 1, 0) == 0:
        KEPT.append(place)


KEPT: List[mmap.mmap] = []
"""What the kernel shows."""


def settle(captured: Any) -> str:
    """Make everything as it would be in a Python that this user had started; return why that cannot be done."""
    import subprocess

    time.tzset()
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_CTYPE, "")
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    plain_children(subprocess)
    try:
        captured.renew_chance()
        captured.renew()
    except Exception as error:  # noqa: BLE001  (other people's modules are executed again)
        return f"something was captured at import and cannot be made anew ({type(error).__name__}: {error})"
    return ""


def plain_children(subprocess: Any) -> None:
    """Start other Pythons (multiprocessing) with this user's packages: not isolated, as the parent is."""

    def no_flags() -> List[str]:
        return []

    for module in (subprocess, sys.modules.get("multiprocessing.util")):
        if hasattr(module, "_args_from_interpreter_flags"):
            module._args_from_interpreter_flags = no_flags  # noqa: SLF001
