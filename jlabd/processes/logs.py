"""What instances write: one file each, in a folder that nobody but the daemon can write to.

The file is the instance's stdout itself, opened for appending, never a pipe: nothing is lost and nobody is killed while
the daemon is away. Rotation works on the open file (`rotation`), so that the instance need not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from jlabd.processes import rotation
from jlabd.processes.command import CommandResult, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from jlabd.spec import LogSpec

log = structlog.get_logger()

TAIL_LIMIT = 16 * 1024 * 1024
"""Bytes that a tail returns at most, however long its lines are."""

_BLOCK = 64 * 1024
_POLL_S = 0.2
_CUT_TIMEOUT_S = 300.0
_COMPRESS_TIMEOUT_S = 1800.0
_PATIENCE_S = 60.0
"""How long a rotation that failed is left alone."""


class LogError(Exception):
    """A log cannot be used; the message says why, and the fix."""


def open_log(log_dir: str, name: str) -> int:
    """Return a descriptor that appends to the instance's log, making the file (0600, the daemon's) if needed.

    Raises LogError: when somebody else could write to the folder, or something else than our file is in its place.
    """
    folder = _open_folder(log_dir)
    path = f"{log_dir}/{name}.log"
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(f"{name}.log", flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise LogError(f"Cannot open the log {path}: {error.strerror}; {_hint(error)}.") from error
    finally:
        os.close(folder)
    try:
        _refuse_strange(descriptor, path)
        os.fchmod(descriptor, 0o600)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_folder(log_dir: str) -> int:
    try:
        Path(log_dir).mkdir(0o750, parents=True, exist_ok=True)
        folder = os.open(log_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LogError(f"Cannot use the log folder {log_dir}: {error.strerror}; correct `log_dir`.") from error
    found = os.fstat(folder)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        os.close(folder)
        raise LogError(
            f"Others can write to the log folder {log_dir}: make it jlabd's own (chown root, chmod 750), "
            "or correct `log_dir`."
        )
    return folder


def _hint(error: OSError) -> str:
    return "somebody put a symbolic link there, remove it" if error.errno == errno.ELOOP else "check `log_dir`"


def _refuse_strange(descriptor: int, path: str) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise LogError(f"The log {path} is not a plain file: remove it.")
    if found.st_nlink > 1:
        raise LogError(f"The log {path} is a hard link to a file with another name: remove it.")
    if found.st_uid not in (0, os.geteuid()):
        raise LogError(f"The log {path} belongs to another user (uid {found.st_uid}): remove it.")


def tail(log_dir: str, name: str, lines: int) -> bytes:
    """Return the last `lines` lines, reaching into the last backup if the log was just rotated; b"" without a log.

    Reads from the end, TAIL_LIMIT bytes at most. Raises OSError.
    """
    with _opened(f"{log_dir}/{name}.log") as descriptor:
        if descriptor is None:
            return b""
        return _tail(log_dir, name, descriptor, os.fstat(descriptor).st_size, lines)


def _tail(log_dir: str, name: str, descriptor: int, size: int, lines: int) -> bytes:
    text, found = _last_lines(descriptor, size, lines, TAIL_LIMIT)
    if found < lines and len(text) == size:
        with _opened(f"{log_dir}/{name}.log.1") as backup:
            if backup is not None:
                # one more: the last line of the backup goes on in the log
                missing = lines - found + (1 if text else 0)
                before, _ = _last_lines(backup, os.fstat(backup).st_size, missing, TAIL_LIMIT - len(text))
                text, _ = _cut_lines(before + text, lines)
    return text


def _last_lines(descriptor: int, size: int, lines: int, limit: int) -> tuple[bytes, int]:
    """Return the last lines before the offset `size` and how many there are."""
    if lines <= 0:
        return b"", 0
    blocks: list[bytes] = []
    newlines, start = 0, size
    while start > 0 and newlines <= lines and size - start < limit:
        step = min(_BLOCK, start, limit - (size - start))
        block = os.pread(descriptor, step, start - step)
        start -= step
        newlines += block.count(b"\n")
        blocks.append(block)
    return _cut_lines(b"".join(reversed(blocks)), lines)


def _cut_lines(text: bytes, lines: int) -> tuple[bytes, int]:
    """Return the last lines of `text` and how many there are; an unfinished last line is one."""
    position = len(text) - text.endswith(b"\n")
    for count in range(lines):
        position = text.rfind(b"\n", 0, position)
        if position < 0:
            return text, count + bool(text)
    return text[position + 1 :], lines


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int | None]:
    """Open a plain file of ours for reading; None if there is none."""
    descriptor = _open_plain(path)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open_plain(path: str) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


class Logs:
    """The logs of one folder: rotating them, and following them while they are rotated."""

    def __init__(self, log_dir: str) -> None:
        self._log_dir = log_dir
        self._busy: set[str] = set()
        self._quiet_until: dict[str, float] = {}
        self._cuts: defaultdict[str, _Cuts] = defaultdict(_Cuts)

    async def rotate_if_needed(self, name: str, spec: LogSpec) -> bool:
        """Move the log's head to a backup if it is too long; say whether it did. To be called every few seconds.

        The work is done by a program of its own, so that nothing here waits for a disk. What fails is logged and tried
        again after a minute; the log then simply goes on growing.
        """
        if name in self._busy or spec.max_size <= 0 or self._size(name) < spec.max_size:
            return False
        if time.monotonic() < self._quiet_until.get(name, 0.0):
            return False
        self._busy.add(name)
        try:
            return await self._rotate(name, spec)
        finally:
            self._busy.discard(name)

    async def _rotate(self, name: str, spec: LogSpec) -> bool:
        cuts = self._cuts[name]
        cuts.settled.clear()
        try:
            result = await self._run("cut", name, spec, _CUT_TIMEOUT_S)
            cuts.total += rotation.cut_bytes(result.output)
        finally:
            cuts.settled.set()
        if result.status == 0 and spec.compress and spec.keep > 1:
            result = await self._run("compress", name, spec, _COMPRESS_TIMEOUT_S)
        if result.status != 0:
            self._quiet_until[name] = time.monotonic() + _PATIENCE_S
            log.warning("Cannot rotate a log; it goes on growing.", instance=name, reason=_last_line(result))
        return result.status == 0

    async def _run(self, verb: str, name: str, spec: LogSpec, timeout_s: float) -> CommandResult:
        program = [sys.executable, "-I", "-S", rotation.__file__]
        return await run([*program, verb, self._log_dir, name, str(spec.max_size), str(spec.keep)], timeout_s)

    def _size(self, name: str) -> int:
        try:
            return os.lstat(f"{self._log_dir}/{name}.log").st_size
        except OSError:
            return 0

    def tail(self, name: str, lines: int) -> bytes:
        """Return the last lines (see the function)."""
        return tail(self._log_dir, name, lines)

    async def follow(self, name: str, lines: int) -> AsyncGenerator[bytes, None]:
        """Yield the last `lines` lines, then all that is written, byte for byte, until the caller stops.

        Rotation loses nothing: what was not yet read is taken from the backups. A log that is deleted or replaced is
        read to its end, then the new one from its start. Raises OSError.
        """
        follower = _Follower(self._log_dir, name, self._cuts[name])
        try:
            yield await follower.start(lines)
            while True:
                piece = await follower.more()
                if piece:
                    yield piece
                else:
                    await asyncio.sleep(_POLL_S)
        finally:
            follower.close()


def _last_line(result: CommandResult) -> str:
    lines = result.output.strip().splitlines()
    return lines[-1] if lines and not result.timed_out else "it took too long"


class _Cuts:
    """What rotation cut off the front of one log, for those who have it open."""

    def __init__(self) -> None:
        self.total = 0
        self.settled = asyncio.Event()
        """Not set while the front is being cut: positions mean nothing then."""
        self.settled.set()


class _Follower:
    """A place in a log that is written, cut and replaced meanwhile."""

    def __init__(self, log_dir: str, name: str, cuts: _Cuts) -> None:
        self._log_dir = log_dir
        self._name = name
        self._path = f"{log_dir}/{name}.log"
        self._cuts = cuts
        self._descriptor: int | None = None
        self._position = 0
        self._cut_before = 0

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    async def start(self, lines: int) -> bytes:
        await self._cuts.settled.wait()
        if not self._open():
            return b""
        assert self._descriptor is not None
        self._position = os.fstat(self._descriptor).st_size
        return _tail(self._log_dir, self._name, self._descriptor, self._position, lines)

    async def more(self) -> bytes:
        """Return what came next, b"" if nothing did."""
        await self._cuts.settled.wait()
        if self._descriptor is None and not self._open():
            return b""
        assert self._descriptor is not None
        missed = self._account_for_cuts()
        piece = os.pread(self._descriptor, _BLOCK, self._position)
        self._position += len(piece)
        if not piece and not missed:
            self._move_on(self._descriptor)
        return missed + piece

    def _open(self) -> bool:
        self.close()
        self._descriptor = _open_plain(self._path)
        self._position, self._cut_before = 0, self._cuts.total
        return self._descriptor is not None

    def _account_for_cuts(self) -> bytes:
        """Move back by what was cut off; return what of it had not been read yet."""
        self._position -= self._cuts.total - self._cut_before
        self._cut_before = self._cuts.total
        missing, self._position = max(0, -self._position), max(0, self._position)
        return _end_of_backups(self._path, missing) if missing else b""

    def _move_on(self, descriptor: int) -> None:
        """At the end: see whether the log was emptied, or another file took its place."""
        found = os.fstat(descriptor)
        if found.st_size < self._position:
            self._position = 0
        with contextlib.suppress(FileNotFoundError):
            now = os.lstat(self._path)
            if (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino):
                self.close()


def _end_of_backups(path: str, size: int) -> bytes:
    """Return the last `size` bytes that were cut off the log at `path`, as far as they are not compressed yet."""
    pieces: list[bytes] = []
    number = 1
    while size > 0:
        with _opened(f"{path}.{number}") as backup:
            if backup is None:
                break
            length = min(size, os.fstat(backup).st_size)
            pieces.append(os.pread(backup, length, os.fstat(backup).st_size - length))
        size -= length
        number += 1
    return b"".join(reversed(pieces))
