"""cgroup v2 as files: finding our own, listing, killing, removing."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from pathlib import Path

from jlabd.processes import procfs

_POPULATED = re.compile(rb"^populated 1$", re.MULTILINE)
_OCTAL = re.compile(r"\\([0-7]{3})")


def own_folder() -> str | None:
    """Return the folder of this process's cgroup v2, None if there is none that we can see.

    On hybrid machines v2 is mounted without controllers below /sys/fs/cgroup/unified; killing needs none.
    """
    return folder_of("self")


def mount_points() -> list[str]:
    """Return where cgroup v2 can be seen."""
    return [mount_point for _, mount_point in _mounts()]


def folder_of(pid: int | str) -> str | None:
    """Return the folder of a process's cgroup v2, None if there is none that we can see. Raises OSError."""
    path = _path_of(pid)
    if path is None:
        return None
    for root, mount_point in _mounts():
        if root in (path, "/") or path.startswith(root + "/"):
            below = path if root == "/" else path.removeprefix(root)
            return (mount_point + below).rstrip("/")
    return None


def _path_of(pid: int | str) -> str | None:
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if line.startswith("0::/") and "/.." not in line:  # “/..” is outside of our cgroup namespace
            return line.removeprefix("0::")
    return None


def _mounts() -> list[tuple[str, str]]:
    """Return (root inside the hierarchy, mount point) of every cgroup2 mount."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            root, mount_point = fields.split(" ")[3:5]
            found.append((_plain(root), _plain(mount_point)))
    return found


def _plain(path: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), path)


def processors(folder: str) -> str:
    """Return the processors that processes in the cgroup may use, as the system lists them; empty if all."""
    for place in (Path(folder), *Path(folder).parents):
        if listed := text(f"{place}/cpuset.cpus.effective").strip():
            return listed
    return ""


def is_populated(events: int) -> bool:
    """Say whether a living process is in the cgroup or below, whose open cgroup.events is given. Raises OSError."""
    try:
        return bool(_POPULATED.search(os.pread(events, 4096, 0)))
    except OSError as error:
        if error.errno == errno.ENODEV:  # somebody removed the cgroup
            return False
        raise


def open_events(folder: str) -> int | None:
    """Return the open cgroup.events file, None if the cgroup does not exist. Raises OSError."""
    try:
        return os.open(f"{folder}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def pids(folder: str) -> list[int]:
    """Return the processes in the cgroup and those below it. Raises OSError if looking failed."""
    found: list[int] = []
    for inner in (folder, *_below(folder)):
        try:
            listed = Path(inner, "cgroup.procs").read_bytes()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):  # removed meanwhile, or threads only
                continue
            raise
        found += [int(pid) for pid in listed.split() if pid != b"0"]
    return found


def has_kill(folder: str) -> bool:
    """Say whether the kernel can kill the whole cgroup at one stroke (5.14 and later)."""
    return os.access(f"{folder}/cgroup.kill", os.F_OK)


def kill_all(folder: str) -> None:
    """Kill every process in the cgroup and below it, forks under way included. Raises OSError.

    Without `has_kill` this is one round of killing in a frozen cgroup, to be repeated.
    """
    if has_kill(folder):
        write(f"{folder}/cgroup.kill", b"1")
    else:
        kill_one_by_one(folder)


def kill_one_by_one(folder: str) -> None:
    """Kill what is in the cgroup and below it, process by process, while none of them can fork. Raises OSError."""
    freeze = f"{folder}/cgroup.freeze"
    with contextlib.suppress(FileNotFoundError):
        write(freeze, b"1")
    for pid in pids(folder):
        with contextlib.suppress(ProcessLookupError):
            _kill_member(pid, folder)
    with contextlib.suppress(FileNotFoundError):
        write(freeze, b"0")


def _kill_member(pid: int, folder: str) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        if pid in pids(folder):  # looked at again after the pidfd was opened: a later process with its pid is safe
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)


def remove(folder: str) -> bool:
    """Remove an empty cgroup and those below it; return whether it is gone. Raises nothing."""
    for inner in reversed(_below(folder)):
        with contextlib.suppress(OSError):
            Path(inner).rmdir()
    try:
        Path(folder).rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def survivors(folder: str) -> list[procfs.Stat]:
    """Return what is still in the cgroup, to be told to people."""
    return [stat for stat in map(procfs.stat, pids(folder)) if stat is not None]


def cpu_seconds(folder: str) -> float | None:
    """Return the processor time that everything in the cgroup ever used, None if the system does not count it."""
    found = re.search(r"^usage_usec (\d+)", text(f"{folder}/cpu.stat"), re.MULTILINE)
    return int(found[1]) / 1e6 if found else None


def memory_bytes(folder: str) -> int | None:
    """Return the memory charged to the cgroup, page cache included; None without the memory controller."""
    current = text(f"{folder}/memory.current")
    return int(current) if current else None


def memory_limit(folder: str) -> int | None:
    """Return the most memory in bytes that the cgroup may hold; None if there is no limit."""
    value = text(f"{folder}/memory.max").strip()
    return int(value) if value.isdigit() else None


def text(path: str) -> str:
    """Return the content of a cgroup's file, empty if that does not exist or cannot be read."""
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return ""


def write(path: str, data: bytes) -> None:
    """Write into a cgroup's file, at one stroke. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _below(folder: str) -> list[str]:
    """Return the cgroups below `folder`, each before those below itself."""
    if "nr_descendants 0\n" in text(f"{folder}/cgroup.stat"):
        return []
    return [path for path, _, _ in os.walk(folder)][1:]
