"""Changing a configuration file: comments and order stay, and only a valid result is written."""

from __future__ import annotations

import stat
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from jlabd.config.problems import ConfigError, Problem, dotted
from jlabd.config.read import check
from jlabd.config.sources import parse_source
from jlabd.files import write_atomically


def set_value(path: Path, table: tuple[str, ...], key: str, value: Any, *, main: Path | None = None) -> None:
    """Write `key = value` into `table` of the file at `path`, which is made if it is not there.

    `main` is the main file if `path` is one that it includes. Raises ConfigError if the file cannot be used or would
    have a problem afterwards, and OSError; the file is then as it was.
    """

    def change(document: tomlkit.TOMLDocument) -> None:
        _table(path, document, table)[key] = value

    edit(path, change, main=main)


def edit(path: Path, change: Callable[[tomlkit.TOMLDocument], None], *, main: Path | None = None) -> None:
    """Let `change` change the document in the file at `path`; see `set_value` for the rest."""
    target = path.resolve(strict=True)
    status = target.stat()
    source = parse_source(path, target.read_bytes())
    try:
        document = tomlkit.parse(source.text)
        change(document)
        data = tomlkit.dumps(document).encode()
    except TOMLKitError as error:
        raise _refused(path, f"cannot be changed by a program: {error}; change it in an editor") from None
    about = {str(path), str(main or path), str(target)}
    if problems := [p for p in check(main or path, texts={target: data}) if p.file in about]:
        raise ConfigError(problems)
    write_atomically(target, data, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))


def _table(path: Path, document: tomlkit.TOMLDocument, table: tuple[str, ...]) -> MutableMapping[str, Any]:
    """Return `table` of `document`, made if it is not there. Raises ConfigError if a value is in the way."""
    found: MutableMapping[str, Any] = document
    for depth, name in enumerate(table, 1):
        if name not in found:
            found[name] = tomlkit.table(is_super_table=depth < len(table))
        below = found[name]
        if not isinstance(below, MutableMapping):
            raise _refused(path, f"{dotted(table[:depth])} is not a table")
        found = below
    return found


def _refused(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem(str(path), None, "", message)])
