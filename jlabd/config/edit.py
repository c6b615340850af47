"""Changing a configuration file: comments and order stay, and only a valid result is written."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import tomlkit
import tomlkit.items
from tomlkit.exceptions import TOMLKitError

from jlabd.config.problems import ConfigError, Problem, dotted
from jlabd.config.read import check
from jlabd.config.sources import Source, parse_source
from jlabd.files import write_atomically

Document = MutableMapping[str, Any]


def set_value(path: Path, table: tuple[str, ...], key: str, value: Any, *, main: Path | None = None) -> None:
    """Write `key = value` into `table`, which is made if need be, of the file at `path`.

    `main` is the main file if `path` is one that it includes; both are judged then. Raises ConfigError if the file
    cannot be used or would have a problem afterwards, and OSError; the file is then as it was.
    """

    def change(document: Document) -> None:
        _table(path, document, table)[key] = value

    edit(path, change, main=main)


def edit(path: Path, change: Callable[[Document], None], *, main: Path | None = None) -> None:
    """Let `change` change the document in the file at `path`; see `set_value` for the rest."""
    rewrite(path, lambda source: changed(source, change), main=main)


def rewrite(path: Path, compose: Callable[[Source], str], *, main: Path | None = None, uid: int | None = None) -> None:
    """Replace the text of the file at `path` by what `compose` makes of it; see `set_value` for the rest.

    It is judged for a daemon of user `uid`, by default of this process.
    """
    target = path.resolve(strict=True)
    _distrust(path, target.parent)
    status = target.stat()
    before = target.read_bytes()
    data = compose(parse_source(path, before)).encode()
    if problems := _new_problems(target, data, main or path, uid):
        raise ConfigError(problems)
    if target.read_bytes() != before:
        raise _refused(path, "was changed by somebody else at this moment; nothing was written, try again")
    write_atomically(target, data, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))


def _distrust(path: Path, folder: Path) -> None:
    """Refuse to write as root where somebody else could put something in the way. Raises ConfigError, OSError."""
    status = folder.stat()
    if os.geteuid() == 0 and (status.st_uid != 0 or status.st_mode & stat.S_IWOTH):
        raise _refused(path, f"lies in the folder {folder}, which others than root control; change it as its owner")


def _new_problems(target: Path, data: bytes, main: Path, uid: int | None) -> list[Problem]:
    """Return why `data` cannot become the text of `target`: each problem in it or in `main`, each new one elsewhere.

    A mistake that some other included file has already is no reason.
    """
    judged = {target, main.resolve()}
    problems = check(main, uid=uid, texts={target: data})
    if own := [problem for problem in problems if Path(problem.file).resolve() in judged]:
        return own
    if not problems:
        return []
    old = {(problem.file, problem.key, problem.message) for problem in check(main, uid=uid)}
    return [problem for problem in problems if (problem.file, problem.key, problem.message) not in old]


def changed(source: Source, change: Callable[[Document], None]) -> str:
    """Return the text of `source` after `change`. Raises ConfigError."""
    expected: Document = tomllib.loads(source.text)
    change(expected)
    try:
        document = tomlkit.parse(source.text)
        change(document)
        text = tomlkit.dumps(document)
        # Tables in unusual notation do not always come out as they were meant.
        if tomllib.loads(text) == expected:
            return text
    except (TOMLKitError, tomllib.TOMLDecodeError):
        pass  # what the library cannot do well it sometimes says itself
    raise _refused(Path(source.file), "is written in a way that a program cannot change; change it in an editor")


def _table(path: Path, document: Document, table: tuple[str, ...]) -> Document:
    """Return `table` of `document`, made if it is not there. Raises ConfigError if a value is in the way."""
    found = document
    for depth, name in enumerate(table, 1):
        if name not in found:
            found[name] = _new_table(found, is_super_table=depth < len(table))
        below = found[name]
        if not isinstance(below, MutableMapping):
            raise _refused(path, f"{dotted(table[:depth])} is not a table")
        found = below
    return found


def _new_table(parent: Document, *, is_super_table: bool) -> Document:
    if type(parent) is dict:
        return {}
    inline = isinstance(parent, tomlkit.items.InlineTable)
    return tomlkit.inline_table() if inline else tomlkit.table(is_super_table)


def _refused(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem(str(path), None, "", message)])
