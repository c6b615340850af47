"""How a program of ours runs another one of ours: with the same interpreter, and from the same place."""

from __future__ import annotations

import sys


def own_program(module: str, *words: str) -> list[str]:
    """Return the command of `python -m module words…`, whose interpreter is told where this package is."""
    folder = __file__.removesuffix("/jlabd/ourselves.py")
    run = f"run_module({module!r}, run_name='__main__', alter_sys=True)"
    program = f"import sys; sys.path.insert(0, {folder!r}); from runpy import run_module; {run}"
    # Not to be misled by a folder `jlabd` that lies where the user happens to be.
    flag = "-I" if sys.flags.isolated else "-P"
    return [sys.executable, flag, "-c", program, *words]
