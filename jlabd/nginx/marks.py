"""What nginx says of itself when it is asked which generation it has in force. Pure.

A mark is a generation's number and a digest of its files: a number alone would be believed of another configuration
after somebody removed the folder and counting began anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

FILE = "verify.conf"
"""The file of a generation that holds its mark."""

_WRITTEN = re.compile(r'return 200 "(\d+ [0-9a-f]{24}) \$pid\\n";')
_SAID = re.compile(r"(\d+ [0-9a-f]{24}) (\d{1,10})\n")


def mark(files: Mapping[str, str], number: int) -> str:
    """Return the mark of the generation `number` with these files (relative name → text), FILE not among them."""
    digest = hashlib.sha256()
    for name in sorted(files):
        for part in (name, files[name]):
            digest.update(f"{len(part.encode())} {part}".encode())
    return f"{number} {digest.hexdigest()[:24]}"


def found(text: str) -> str | None:
    """Return the mark that is in the text of FILE; None if there is none."""
    written = _WRITTEN.search(text)
    return written[1] if written else None


def said(text: str) -> tuple[str, int] | None:
    """Return the mark that nginx answered with, and the pid of the worker that did; None if this is no such answer."""
    answer = _SAID.fullmatch(text)
    return (answer[1], int(answer[2])) if answer else None


def host(config_dir: str) -> str:
    """Return the name under which nginx answers with the mark; another jlabd's has another one."""
    return f"generation-{hashlib.sha256(config_dir.encode()).hexdigest()[:16]}.jlabd.invalid"
