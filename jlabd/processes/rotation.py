"""Rotating one log: a small program of its own, so that the daemon waits for no disk and shares no interpreter lock.

    python -I -S rotation.py cut|compress FOLDER NAME MAX_SIZE KEEP

It uses the standard library only. FOLDER must be writable by nobody else. NAME.log is open in the instance, which goes
on writing; the head moves to NAME.log.1, older ones to NAME.log.2 and so on, compressed as NAME.log.2.gz.

Where the file system can cut the head off in place (ext4 and xfs: fallocate COLLAPSE_RANGE) no byte is lost. Backups
then are whole blocks, so that a line may begin in NAME.log.1 and end in NAME.log; one after the other they are exactly
what was written. Elsewhere (tmpfs, btrfs, network) the log is copied to its very end and emptied by the next system
call: only what is written between these two, a few millionths of a second, can get lost (more if the program is
interrupted just there, which root prevents).

The copy is on the disk before anything is cut. After a crash in between, the next run finds the copy, compares it with
the log's head, and so knows whether the cut had been made. `cut N` on stdout says how many bytes went off the front.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import gzip
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

_COLLAPSE_RANGE = 0x08
_BLOCK = 1024 * 1024
_FAR = 1 << 63
"""An offset that no file has."""
_SPRINT = 100
"""Reads for which we may take precedence over everybody else, at most."""
_SPARE = 1024 * 1024
"""Bytes of disk that a copy must leave free."""


class RotationError(Exception):
    """The log cannot be rotated now; it is untouched."""


def cut_bytes(output: str) -> int:
    """Return how many bytes the program's output says were cut off."""
    return sum(int(size) for size in re.findall(r"^cut (\d+)$", output, re.MULTILINE))


def main(arguments: list[str]) -> int:
    """Run the program; return its exit status."""
    verb, folder, name, max_size, keep = arguments
    try:
        os.chdir(folder)
        with Path(f".{name}.log.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if verb == "cut":
                cut(name, int(max_size), int(keep))
            else:
                os.nice(10)
                compress(name, int(max_size), int(keep))
    except (OSError, RotationError) as error:
        print(_sentence(error), file=sys.stderr)
        return 1
    return 0


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk of the logs is full: free some space."
    return str(error)


def cut(name: str, max_size: int, keep: int) -> None:
    """Move the log's head into backups until what stays is shorter than `max_size`."""
    log = os.open(f"{name}.log", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(log).st_mode):
            raise RotationError(f"{name}.log is not a plain file: remove it.")
        _recover(log, name, keep)
        if _can_collapse(log):
            while os.fstat(log).st_size >= max_size and _cut_piece(log, name, max_size, keep):
                pass
        elif os.fstat(log).st_size >= max_size:
            _cut_all(log, name, keep)
    finally:
        os.close(log)


def _cut_piece(log: int, name: str, max_size: int, keep: int) -> bool:
    """Move the first `max_size` bytes, in whole blocks, to a backup; say whether there was anything to move."""
    block = os.fstatvfs(log).f_bsize
    unit = _BLOCK if max_size >= 4 * _BLOCK else block
    end = (os.fstat(log).st_size - 1) // unit * unit  # the last byte must stay: the kernel wants it so
    hole = min(_first_data(log, 0), end) // unit * unit
    if hole:  # made by a program that moved its own write position: nothing is there to be kept
        _collapse(log, hole)
        print(f"cut {hole}", flush=True)
        return True
    length = min(end, max(unit, max_size // unit * unit))
    if length <= 0:
        return False
    if keep > 0:
        _copy(log, name, length)
    _collapse(log, length)
    print(f"cut {length}", flush=True)
    if keep > 0:
        _promote(name, keep)
    return True


def _cut_all(log: int, name: str, keep: int) -> None:
    """Copy the log to its end and empty it at once."""
    if keep == 0:
        print(f"cut {os.fstat(log).st_size}", flush=True)
        os.ftruncate(log, 0)
        return
    position = os.fstat(log).st_size
    _copy(log, name, position)
    copy = os.open(_copy_name(name), os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    os.lseek(copy, 0, os.SEEK_END)
    position = _empty(log, copy, position)
    print(f"cut {position}", flush=True)
    os.fsync(copy)
    os.close(copy)
    _promote(name, keep)


def _empty(log: int, copy: int, position: int) -> int:
    """Copy the rest, from `position` on, and empty the log before more can be written; return how much it was."""
    sendfile, ftruncate = os.sendfile, os.ftruncate
    while True:
        while (sent := sendfile(copy, log, position, _BLOCK)) == _BLOCK:
            position += sent
        position += sent
        with _uninterrupted():
            for _ in range(_SPRINT):
                sent = sendfile(copy, log, position, _BLOCK)
                if not sent:
                    ftruncate(log, 0)
                    return position
                position += sent


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Take precedence over all ordinary processes on this processor; who is not root begins a fresh slice of time."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        os.sched_yield()
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _copy_name(name: str) -> str:
    return f".{name}.log.cut"


def _copy(log: int, name: str, length: int) -> None:
    """Make a copy of the log's first `length` bytes that is complete and on the disk, or none. Holes are left out."""
    extents = _extents(log, length)
    room = os.fstatvfs(log)
    if room.f_bavail * room.f_frsize < sum(end - start for start, end in extents) + _SPARE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    unfinished = f".{name}.log.unfinished"
    copy = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        for start, end in extents:
            _copy_bytes(log, copy, start, end)
        os.fsync(copy)
        Path(unfinished).rename(_copy_name(name))
        _sync_folder()
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    finally:
        os.close(copy)


def _copy_bytes(source: int, target: int, offset: int, end: int) -> None:
    while offset < end:
        sent = os.sendfile(target, source, offset, min(_BLOCK, end - offset))
        if sent == 0:
            raise RotationError("The log became shorter while it was copied.")
        offset += sent


def _extents(log: int, length: int) -> list[tuple[int, int]]:
    """Return the parts of the first `length` bytes that were really written; what lies between is no output."""
    found = []
    start = _first_data(log, 0)
    while start < length:
        end = min(os.lseek(log, start, os.SEEK_HOLE), length)
        found.append((start, end))
        start = _first_data(log, end)
    return found


def _promote(name: str, keep: int) -> None:
    """Make the finished copy NAME.log.1 and push the older ones back, the oldest over the edge."""
    backups = _backups(name)
    for number in sorted(backups, reverse=True):
        for suffix in backups[number]:
            old = f"{name}.log.{number}{suffix}"
            if number >= keep:
                Path(old).unlink()
            else:
                Path(old).rename(f"{name}.log.{number + 1}{suffix}")
    Path(_copy_name(name)).rename(f"{name}.log.1")
    _sync_folder()


def _backups(name: str) -> dict[int, list[str]]:
    """Return the backups there are: number → suffixes."""
    pattern = re.compile(rf"{re.escape(name)}\.log\.([1-9][0-9]*)(\.gz)?")
    found: dict[int, list[str]] = {}
    for entry in Path.cwd().iterdir():
        match = pattern.fullmatch(entry.name)
        if match:
            found.setdefault(int(match[1]), []).append(match[2] or "")
    return found


def _recover(log: int, name: str, keep: int) -> None:
    """Finish what an earlier run left: its copy is either already cut off the log, or still the log's head."""
    try:
        copy = os.open(_copy_name(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        still_there = _is_head(copy, log)
    finally:
        os.close(copy)
    if still_there:
        Path(_copy_name(name)).unlink()
    else:
        _promote(name, max(keep, 1))


def _is_head(copy: int, log: int) -> bool:
    offset = 0
    while piece := os.pread(copy, _BLOCK, offset):
        if os.pread(log, len(piece), offset) != piece:
            return False
        offset += len(piece)
    return True


def compress(name: str, max_size: int, keep: int) -> None:
    """Compress the backups but the first (which `tail` reads), until the log needs to be cut again."""
    backups = _backups(name)
    for number in sorted(backups):
        if number > 1 and "" in backups[number] and number <= keep:
            if os.lstat(f"{name}.log").st_size >= max_size:
                return
            _compress(f"{name}.log.{number}", f".{name}.log.gz.unfinished")


def _compress(backup: str, unfinished: str) -> None:
    target = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with (
            os.fdopen(target, "wb") as raw,
            Path(backup).open("rb") as plain,
            gzip.GzipFile("", "wb", 6, raw, mtime=os.fstat(plain.fileno()).st_mtime) as packed,
        ):
            shutil.copyfileobj(plain, packed, _BLOCK)
            times = os.fstat(plain.fileno())
        os.utime(unfinished, ns=(times.st_atime_ns, times.st_mtime_ns))
        _sync_file(unfinished)
        Path(unfinished).rename(f"{backup}.gz")
        Path(backup).unlink()
        _sync_folder()
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _can_collapse(log: int) -> bool:
    """Ask for the impossible: a file system that can collapse calls it invalid, another one unsupported."""
    return _fallocate(log, 1, 1) == errno.EINVAL  # no block is that small


def _collapse(log: int, length: int) -> None:
    number = _fallocate(log, 0, length)
    if number:
        raise OSError(number, f"Cannot cut off the log's head: {os.strerror(number)}")


def _fallocate(log: int, offset: int, length: int) -> int:
    """Remove a range and close the gap; return 0 or the error number."""
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return ctypes.get_errno() if fallocate(log, _COLLAPSE_RANGE, offset, length) else 0


def _first_data(log: int, offset: int) -> int:
    """Return where the first byte from `offset` on is that was ever written, a large number if there is none."""
    try:
        return os.lseek(log, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return _FAR
        raise


def _sync_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder() -> None:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
