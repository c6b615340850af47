"""The folder that nginx includes, as generations: each is written whole, and put in force by one rename.

    config_dir/jlabd.conf       the one file for nginx.conf to include; it includes live/*.conf
    config_dir/generations/N/   one rendered configuration; 0 is empty, and stands for what was before the first
    config_dir/live             link to the generation that nginx reads
    config_dir/.back            link to where `live` is to point again, until nginx has taken the new one
    config_dir/loaded           link to the last generation that nginx has answered with

When all is well `live` and `loaded` agree, and there is no `.back`. They are on disk because a daemon that is killed
between two of the steps must know, when it comes back, which of them were done.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jlabd.files import sync_folder, write_atomically

BACK = ".back"
_TARGET = re.compile(r"generations/([0-9]{1,18})")


class UnsafeFolderError(Exception):
    """Somebody else could change what nginx reads; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Links:
    """Where the two links point; None when there is no such generation."""

    live: int | None
    loaded: int | None

    @property
    def agree(self) -> bool:
        """All is well: what nginx would read it has loaded."""
        return self.live is not None and self.live == self.loaded

    @property
    def none(self) -> bool:
        """Nothing was ever published."""
        return self.live in {None, 0} and self.loaded is None


@dataclass(frozen=True, slots=True)
class Generations:
    """The folder `root`. Every method may raise OSError."""

    root: Path

    def prepare(self, entry: str) -> bool:
        """Make the folder and jlabd.conf; return whether jlabd.conf had to be written. Raises UnsafeFolderError."""
        _make_folder(self.root)
        _make_folder(self.root / "generations")
        path = self.root / "jlabd.conf"
        if _content(path) == entry:
            return False
        write_atomically(path, entry.encode(), 0o644)
        return True

    def links(self) -> Links:
        """Read the two links."""
        return Links(self._number("live"), self._number("loaded"))

    def read(self, number: int | None) -> dict[str, str]:
        """Return the files of a generation, relative name → text; none when it does not exist."""
        if number is None:
            return {}
        folder = self._folder(number)
        names = (Path(where, name) for where, _, names in os.walk(folder) for name in names)
        return {str(path.relative_to(folder)): _content(path) or "" for path in names}

    def text(self, number: int, name: str) -> str:
        """Return one file of a generation; empty when it does not exist."""
        return _content(self._folder(number) / name) or ""

    def next_number(self) -> int:
        """Return the number for a new generation."""
        return max(self._existing(), default=0) + 1

    async def write(self, number: int, files: Mapping[str, str]) -> None:
        """Write a new generation, durable, or nothing; lets others run after each file (fsync is slow)."""
        try:
            folder = self._folder(number)
            _new_folder(folder)
            for part in sorted({str(Path(name).parent) for name in files} - {"."}):
                _new_folder(folder / part)
            for name, text in files.items():
                _new_file(folder / name, text)
                await asyncio.sleep(0)
            for path in (folder, *folder.iterdir()):
                if path.is_dir():
                    sync_folder(path)
            sync_folder(folder.parent)
        except BaseException:
            self.drop(number)
            raise

    def point(self, link: str, number: int) -> None:
        """Let `link` point to a generation, in one step and durably."""
        self._lay(f".{link}.new", number)
        (self.root / f".{link}.new").rename(self.root / link)
        sync_folder(self.root)

    def settle(self) -> Links:
        """Undo what was under way when a daemon was killed; return where the links point then, `live` always to one."""
        if (self.root / BACK).is_symlink():
            self._put_back()
        links = self.links()
        if links.live is None:
            if links.loaded is None and 0 not in self._existing():
                _new_folder(self._folder(0))
            self.point("live", links.loaded or 0)
        return self.links()

    def view(self, candidate: int) -> tuple[str, str]:
        """Return the folder of a candidate, and the one in whose place nginx would read it."""
        return str(self._folder(candidate)), str((self.root / "live").resolve())

    @contextlib.contextmanager
    def replaced_by(self, candidate: int) -> Iterator[None]:
        """Let `live` point to a candidate; if the block raises or the daemon dies in it, to where it did before.

        The way back is laid first: then a full disk cannot bar it.
        """
        self._lay(BACK, self.links().live or 0)
        try:
            self.point("live", candidate)
            yield
        except BaseException:
            self._put_back()
            raise
        self._remove(BACK)

    def keep(self, *numbers: int | None) -> None:
        """Remove all generations but these. What cannot be removed now is tried again the next time."""
        for number in self._existing() - set(numbers):
            self.drop(number)

    def paths(self) -> list[str]:
        """Return every file and folder that nginx reads here, if it is there."""
        live = self.root / "live"
        inside = (os.path.join(where, name) for where, _, names in os.walk(live) for name in ("", *names))  # noqa: PTH118
        return [str(self.root), str(self.root / "jlabd.conf"), str(live), *inside]

    def drop(self, number: int) -> None:
        """Remove a generation as far as possible."""
        shutil.rmtree(self._folder(number), ignore_errors=True)

    def _folder(self, number: int) -> Path:
        return self.root / "generations" / str(number)

    def _existing(self) -> set[int]:
        return {int(path.name) for path in (self.root / "generations").iterdir() if path.name.isdecimal()}

    def _number(self, link: str) -> int | None:
        try:
            found = _TARGET.fullmatch(str((self.root / link).readlink()))
        except OSError:
            return None
        return int(found[1]) if found and self._folder(int(found[1])).is_dir() else None

    def _put_back(self) -> None:
        (self.root / BACK).rename(self.root / "live")
        with contextlib.suppress(OSError):  # the name is back; that it lasts is for a disk that works
            sync_folder(self.root)

    def _lay(self, name: str, number: int) -> None:
        self._remove(name)
        (self.root / name).symlink_to(f"generations/{number}")

    def _remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)


def _make_folder(path: Path) -> None:
    """Make a folder that everybody may read and only we may write, or check the one that is there."""
    with contextlib.suppress(FileExistsError):
        _new_folder(path)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeFolderError(f"{path} is not a folder (nor may it be a symbolic link): move it away.")
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafeFolderError(
            f"{path} can be written by others, who could then tell nginx what they like: "
            f"chown root {path}; chmod 755 {path}."
        )


def _new_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o755)  # nginx may run as another user, when it is tested by one; whatever the umask


def _new_file(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())


def _content(path: Path) -> str | None:
    """Return the text of a file of ours; None when there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, IsADirectoryError):
        return None
