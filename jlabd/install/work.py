"""Writing what was planned, and taking it away again, below a root folder that is / but for tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from jlabd.install.place import (
    COMMAND,
    CONFIG_FOLDER,
    NGINX_FOLDER,
    NGINX_INCLUDE,
    PACKAGED_DIRS,
    UNIT_DIR,
    UNITS,
    Installation,
    NotInstalledError,
    Planned,
    is_as_written,
)
from jlabd.ownership import why_not_only_root


def refuse_beside_package(root: Path) -> None:
    """Refuse where jlabd's units came with a package: ours would go before them. Raises NotInstalledError."""
    for folder in PACKAGED_DIRS:
        for unit in UNITS:
            if _there(root, f"{folder}/{unit}"):
                raise NotInstalledError(
                    f"{folder}/{unit} is there: jlabd was installed from a package, and is a service already. Use that "
                    "one (systemctl enable --now jlabd), or remove the package first."
                )


def refuse_what_others_can_change(places: Iterable[Path]) -> None:
    """Refuse programs that others than root could change: root is to run them. Raises NotInstalledError, OSError."""
    for place in places:
        if why := why_not_only_root(place):
            raise NotInstalledError(
                f"root would run {place}, but {why}: install jlabd where only root can write, in /opt/jlabd say."
            )


def edited(planned: Iterable[Planned], root: Path) -> list[str]:
    """Return the paths of files that are not as we wrote them: an administrator's, not to be replaced silently."""
    return [file.path for file in planned if not file.kept and _is_edited(root, file)]


def _is_edited(root: Path, file: Planned) -> bool:
    text = _text(root, file.path)
    return text is not None and text != file.marked and not is_as_written(text)


def install(planned: Iterable[Planned], installation: Installation, root: Path) -> Iterator[str]:
    """Write it; yield a sentence about each step. What was edited is kept beside as PATH.old. Raises OSError."""
    for file in planned:
        yield _put(root, file)
    for path, mode in ((CONFIG_FOLDER, 0o700), (NGINX_FOLDER, 0o755)):
        folder = root / path[1:]
        if folder.parent.is_dir() and not folder.exists():
            folder.mkdir(mode=mode)
            yield f"made     {path}"
    command = root / COMMAND[1:]
    if not os.path.lexists(command) and command.parent.is_dir():
        command.symlink_to(installation.programs / "jlabctl")
        yield f"linked   {COMMAND}"


def _put(root: Path, file: Planned) -> str:
    text = _text(root, file.path)
    if text is None:
        _write(root, file)
        return f"written  {file.path}"
    if file.kept or text == file.marked:
        return f"is there {file.path}"
    if is_as_written(text):
        _write(root, file)
        return f"updated  {file.path}"
    target = root / file.path[1:]
    target.rename(f"{target}.old")
    _write(root, file)
    return f"replaced {file.path} (what it was is now {file.path}.old)"


def _write(root: Path, file: Planned) -> None:
    """Write the file anew beside, then put it in place: nobody ever sees half of it, or more than its mode allows."""
    target = root / file.path[1:]
    unfinished = target.with_name(f".{target.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, file.mode)
    with open(descriptor, "w", encoding="utf-8") as out:  # noqa: PTH123  (a descriptor)
        os.fchmod(descriptor, file.mode)
        out.write(file.marked)
        out.flush()
        os.fsync(descriptor)
    unfinished.rename(target)


def uninstall(root: Path) -> Iterator[str]:
    """Remove what `install` wrote and nobody edited; yield a sentence about each step. Raises OSError."""
    for path in (*(f"{UNIT_DIR}/{unit}" for unit in UNITS), NGINX_INCLUDE):
        text = _text(root, path)
        if text is None:
            continue
        if is_as_written(text):
            (root / path[1:]).unlink()
            yield f"removed  {path}"
        else:
            yield f"left     {path}: it was edited; remove it yourself"
    if not _there(root, NGINX_INCLUDE) and _there(root, NGINX_FOLDER):
        shutil.rmtree(root / NGINX_FOLDER[1:])
        yield f"removed  {NGINX_FOLDER}"
    command = root / COMMAND[1:]
    if command.is_symlink() and os.readlink(command).endswith("/bin/jlabctl"):  # noqa: PTH115  (as it is written)
        command.unlink()
        yield f"removed  {COMMAND}"


def _there(root: Path, path: str) -> bool:
    return os.path.lexists(root / path[1:])


def _text(root: Path, path: str) -> str | None:
    """Return the text of a file, None if there is none; a link or a mask is something that nobody may replace."""
    place = root / path[1:]
    if place.is_symlink():
        return f"a link to {os.readlink(place)}"  # noqa: PTH115  (only to be told)
    try:
        return place.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
