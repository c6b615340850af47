"""The entry point of `jlabctl`."""

from __future__ import annotations

import os
import sys

from jlabd.control.client import ProblemError, UnreachableError
from jlabd.control.wire import DEFAULT_SOCKET
from jlabd.ctl.failure import DONE, FAILED, INTERRUPTED, NOT_THERE, READER_GONE, CommandError
from jlabd.ctl.text import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main() -> int:
    """Run the command in sys.argv, and return its exit code."""
    try:
        return _finished(_guarded(sys.argv[1:]))
    except BrokenPipeError:
        # The reader (`head`) has seen enough. What is still in the buffer must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE


def _finished(code: int) -> int:
    sys.stdout.flush()
    return code


def _guarded(argv: Sequence[str]) -> int:
    try:
        return _run(argv)
    except SystemExit as ended:  # how argparse ends; what it printed is still to be flushed
        return ended.code if isinstance(ended.code, int) else DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except UnreachableError as error:
        return _complain(error, NOT_THERE)
    except ProblemError as error:
        return _complain(error, NOT_THERE if error.status == 404 else FAILED)
    except CommandError as error:
        return _complain(error, error.code)


def _run(argv: Sequence[str]) -> int:
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text file, as Python makes it
    if _is_plain_status(argv):
        from jlabd.ctl.status import status

        names = [word for word in argv[1:] if word != "--json"]
        return status(default_socket(), names, as_json="--json" in argv, colour=True)
    if argv == ["completion", "names"]:  # each time that somebody presses the tabulator
        from jlabd.ctl.completion import names as show_names

        return show_names(default_socket())
    from jlabd.ctl.options import run

    return run(argv, default_socket())


def _is_plain_status(argv: Sequence[str]) -> bool:
    """Tell `status [NAME…] [--json]`, which monitoring runs all the time, without argparse."""
    return argv[:1] == ["status"] and all(word == "--json" or not word.startswith("-") for word in argv[1:])


def default_socket() -> str:
    """Return the control socket that is used when the command line names none."""
    return os.environ.get("JLABD_SOCKET") or DEFAULT_SOCKET


def _complain(error: Exception, code: int) -> int:
    sys.stdout.flush()
    print(f"jlabctl: {safe(str(error))}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
