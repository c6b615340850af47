"""How the programs behind `jlabctl check`, `doctor` and the like are run: they end as quietly as `jlabctl` itself."""

from __future__ import annotations

import os
import sys

from jlabd.ctl.failure import DONE, INTERRUPTED, READER_GONE


def run(module: str) -> None:
    """Run `module` as a program, and exit as it does; Ctrl-C and a reader that is gone leave no traceback."""
    try:
        sys.exit(_flushed(_guarded(module)))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(READER_GONE)


def _guarded(module: str) -> int | str | None:
    from runpy import run_module

    try:
        run_module(module, run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as ended:
        return ended.code
    return DONE


def _flushed(code: int | str | None) -> int | str | None:
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    run(sys.argv.pop(1))
