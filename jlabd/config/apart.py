"""Reading the configuration in a process of its own.

What reading needs (pydantic, tomlkit, the tables of hundreds of instances) would stay in the daemon's memory for ever;
so a process reads that ends afterwards. It is this file as a program. The last line that it prints is what it read,
pickled, because both ends are the same code of the same account. Whether they are is looked at: after an update the
program is the new jlabd while the old one runs, and a pickle does not say which of its values is whose.
"""

from __future__ import annotations

import base64
import binascii
import copyreg
import hashlib
import pickle
import re
import sys
import zlib
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType

from jlabd import __version__, spec
from jlabd.config.loaded import Loaded, frozen
from jlabd.config.problems import ConfigError, Problem
from jlabd.ourselves import own_program

TIMEOUT_S = 120.0
"""Accounts may come from a directory service that takes its time."""
_WITH_FILES = "--with-files"
_LIKENESS = re.compile("[0-9a-f]{16}")
LIMIT = 256 * 1024 * 1024
"""Bytes that the program may print: ten thousand instances are some 3 MB."""


def reading_command(path: str, *, with_files: bool = False) -> list[str]:
    """Return the command that reads the file at `path`; for `with_files` see `config.read.load`."""
    return own_program("jlabd.config.apart", path, *([_WITH_FILES] if with_files else []))


def what_was_read(path: str, status: int, output: str) -> Loaded:
    """Return what `config.read.load` does, from how the command ended and what it printed. Raises ConfigError."""
    _, _, last = output.rstrip().rpartition("\n")
    likeness, _, data = last.partition(" ")
    if status == 0 and _LIKENESS.fullmatch(likeness) and likeness != _likeness():
        raise _unread(path, "was not read: another jlabd is on disk than runs; `jlabctl reexec` goes over to it")
    said = last.strip() or f"it ended with status {status} and said nothing"
    strange = _unread(path, f"could not be read by the process that reads it: {said}")
    if status != 0 or likeness != _likeness():
        raise strange
    try:
        result = pickle.loads(zlib.decompress(base64.b64decode(data, validate=True)))  # noqa: S301  (our own code's)
    except (binascii.Error, ValueError, zlib.error, EOFError, pickle.UnpicklingError):
        raise strange from None
    if isinstance(result, Loaded):
        return result
    raise ConfigError(result)


def _unread(path: str, why: str) -> ConfigError:
    return ConfigError([Problem(path, None, "", why)])


def _likeness() -> str:
    """Return what both ends must have in common: the version, and the fields of what is read, in their order."""
    kinds = [kind for kind in (*vars(spec).values(), Loaded, Problem) if is_dataclass(kind)]
    told = [(kind.__qualname__, [field.name for field in fields(kind)]) for kind in kinds if isinstance(kind, type)]
    return hashlib.sha256(f"{__version__} {told}".encode()).hexdigest()[:16]


def main(path: str, *more: str) -> None:
    """Read the file at `path`, and print what was read."""
    from jlabd.config.read import load  # noqa: PLC0415  (the daemon must not import it)

    result: Loaded | tuple[Problem, ...]
    try:
        result = load(Path(path), with_files=_WITH_FILES in more)
    except ConfigError as error:
        result = error.problems
    copyreg.pickle(MappingProxyType, lambda mapping: (frozen, (dict(mapping),)))
    print(_likeness(), base64.b64encode(zlib.compress(pickle.dumps(result), 1)).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
