"""The vocabulary of importing: what a file says (facts), what is not carried over (remarks), and where it stands."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Key = tuple[str, ...]
"""Keys of an instance's table, or one that begins with `@` and is understood by `settle` only."""

HOME = "\x01home\x01"
USER = "\x01user\x01"
"""Stand for home and name of the lab's account until it is known. No file can hold them: see `gather`."""

_SECRET = re.compile(
    r"(?i)((?:token|passw(?:or)?d|secret|credential|api_?key)[\w.]*['\"\]]*\s*[=:]\s*)(?!['\"]['\"]|\Z)[^\s,]+"
)
_LONGEST = 100


class ImportFailedError(Exception):
    """A file cannot be imported; the text says where and why."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of a file; line 0 is the file as a whole."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    def failed(self, sentence: str) -> ImportFailedError:
        """Return the error for what is wrong here."""
        return ImportFailedError(f"{self}: {sentence}")


class Kind(StrEnum):
    """What a file is."""

    SUPERVISOR = "a Supervisor configuration"
    SYSTEMD = "a systemd unit"
    JUPYTER = "a Jupyter configuration"
    NGINX = "an nginx configuration"
    SCRIPT = "a shell script"


@dataclass(frozen=True, slots=True)
class Given:
    """One file: its absolute path and its text."""

    path: str
    text: str
    owner: str = ""
    """The account it belongs to; empty if that is root or nobody knows."""

    def at(self, line: int) -> Place:
        """Return a place in it."""
        return Place(self.path, line)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is carried over."""

    key: Key
    value: Any
    place: Place
    note: str = ""
    """What a reader of the result should know about it."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that is not carried over, and why."""

    place: Place
    what: str
    why: str


Finding = Fact | Remark


@dataclass(frozen=True, slots=True)
class Machine:
    """What can be known of the machine only by asking it."""

    home: Callable[[str], str]
    """From an account to its home; empty if there is no such account."""
    host_names: frozenset[str] = frozenset()
    """Under which names nginx answers for jlabd if nothing else is said."""


@dataclass(slots=True)
class Part:
    """What one file says of one lab."""

    kind: Kind
    place: Place
    name: str
    findings: list[Finding] = field(default_factory=list)
    owner: str = ""

    def values(self, key: str) -> list[Any]:
        """Return what the facts called `key` say, in their order."""
        return [f.value for f in self.findings if isinstance(f, Fact) and f.key == (key,)]


def working_directory(found: Iterable[Fact]) -> str:
    """Return where a program runs after all that changed its folder in turn; empty if nothing did."""
    folder = ""
    for fact in found:
        if fact.key == ("@cwd",):
            folder = str(fact.value) if is_anchored(str(fact.value)) else posixpath.join(folder, str(fact.value))
    return folder


def is_anchored(path: str) -> bool:
    """Tell whether a path does not depend on the folder that a program runs in."""
    return path.startswith(("/", "~", HOME))


def quoted(text: str) -> str:
    """Return a piece of a file for a comment: one line, printable, not too long, without secrets."""
    line = " ".join(text.replace(HOME, "~").replace(USER, "$USER").split()) if len(text) < 10_000 else text[:200]
    line = _SECRET.sub(r"\1…", line)
    line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line[: _LONGEST + 1])
    return line[:_LONGEST] + "…" if len(line) > _LONGEST else line


def remarks(findings: Iterable[Finding]) -> list[Remark]:
    """Return those that are remarks."""
    return [finding for finding in findings if isinstance(finding, Remark)]


def facts(findings: Iterable[Finding]) -> list[Fact]:
    """Return those that are facts."""
    return [finding for finding in findings if isinstance(finding, Fact)]
