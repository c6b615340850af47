"""What of a lab's folders and programs its account can use. Only looks: no program of the lab is run.

`survey` is asked with the account's own rights (see `as_account`), and answers in JSON's types.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

READ_ONLY = "cannot be written"

LARGEST = 64 * 1024
"""Bytes of a kernel's description."""


def survey(folder: str, programs: list[str], venv: str, home: str) -> dict[str, Any]:
    """Return what is wrong with each, "" for nothing, and what the venv holds.

    {"folder": why it cannot be entered and written, "home": the same, "programs": {path: why it cannot be run},
    "packages": {name: version}, "kernels": {path of kernel.json: program that cannot be run}}.
    """
    return {
        "folder": _folder(folder),
        "home": _folder(home),
        "programs": {program: _program(program) for program in programs},
        "packages": _packages(venv) if venv else {},
        "kernels": dict(_broken_kernels(venv, home)) if venv else {},
    }


def _folder(path: str) -> str:
    try:
        os.scandir(path).close()
    except OSError as error:
        return (error.strerror or str(error)).lower() + _culprit(path)
    return "" if os.access(path, os.W_OK | os.X_OK) else READ_ONLY


def _program(path: str) -> str:
    try:
        if not Path(path).is_file():
            Path(path).stat()
            return "is no file"
    except OSError as error:
        return (error.strerror or str(error)).lower() + _culprit(path)
    return "" if os.access(path, os.X_OK) else "cannot be executed" + _culprit(path)


def _culprit(path: str) -> str:
    """Return in brackets what on the way to `path`, links followed, is missing or closed; or where the way leads."""
    real = os.path.realpath(path)
    for above in reversed(Path(real).parents):
        if not os.path.lexists(above):
            return f" (there is no {above})"
        if not os.access(above, os.X_OK):
            return f" ({above} is closed)"
    return f" (it is a link to {real})" if real != os.path.normpath(path) else ""


def _packages(venv: str) -> dict[str, str]:
    """Return the versions of the packages that a lab needs, as the environment's own records say."""
    found = {}
    for record in _matching(venv, "lib*/python3.*/site-packages/*.dist-info"):
        name, _, version = record.name.removesuffix(".dist-info").partition("-")
        if name.lower() in {"jupyterlab", "jupyter_server", "ipykernel"}:
            found[name.lower()] = version
    return found


def _matching(folder: str, pattern: str) -> list[Path]:
    """Return what matches below `folder`; nothing where nobody lets us through."""
    return sorted(Path(name) for name in glob.glob(f"{glob.escape(folder)}/{pattern}"))  # noqa: PTH207  (Path.glob raises)


def _broken_kernels(venv: str, home: str) -> Iterator[tuple[str, str]]:
    """Yield kernels whose program is not there; those that say `python` mean the lab's own."""
    for folder in (f"{home}/.local/share/jupyter", f"{venv}/share/jupyter", "/usr/local/share/jupyter"):
        for description in _matching(folder, "kernels/*/kernel.json"):
            program = _kernels_program(description)
            if program.startswith("/") and _program(program):
                yield str(description), program


def _kernels_program(description: Path) -> str:
    try:
        # Not blocking: a FIFO of that name must not stop us.
        with open(os.open(description, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            argv = json.loads(file.read(LARGEST))["argv"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return argv[0] if isinstance(argv, list) and argv and isinstance(argv[0], str) else ""
