"""The entry point of `jlabd`."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jlabd import __version__

DEFAULT_CONFIG = "/etc/jlabd.toml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon in the foreground, or check its configuration; returns the exit status."""
    options = parser().parse_args(argv)
    path = Path(options.config).absolute()
    work = check if options.check else try_out if options.try_out else serve
    status = work(path)
    _give_up_unwritable_streams()
    return status


def _give_up_unwritable_streams() -> None:
    """Let the exit status say how it went, not that the terminal or the reader at the other end is gone (120)."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def parser() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    parser = argparse.ArgumentParser(prog="jlabd", description="The supervisor for JupyterLab, in the foreground.")
    parser.add_argument("--config", metavar="PATH", default=DEFAULT_CONFIG, help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="say what is wrong with the configuration, and end")
    parser.add_argument("--try", dest="try_out", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"jlabd {__version__}")
    return parser


def check(path: Path) -> int:
    """Print every problem of the configuration at `path`; returns 1 if there is one, else 0."""
    from jlabd.config.accounts import whose_daemon  # noqa: PLC0415  (--version and --help start fast)
    from jlabd.config.read import check as find_problems  # noqa: PLC0415

    problems = find_problems(path, uid=whose_daemon(path), with_files=True)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        _note_lacks(path)
        print(f"{path}: ok")
    return 1 if problems else 0


def _note_lacks(path: Path) -> None:
    """Say what of a configuration without problems will have no effect on this machine."""
    from jlabd.config.read import load  # noqa: PLC0415  (see check)
    from jlabd.processes.enforcement import machine_lacks  # noqa: PLC0415

    instances = load(path).configuration.instances
    for lack in machine_lacks({name: spec.limits for name, spec in instances.items()}):
        print(f"{path}: note: {lack.sentence}; {lack.fix}", file=sys.stderr)


def try_out(path: Path) -> int:
    """Find out whether this code could serve: everything is imported and the configuration read. Nothing is touched."""
    from jlabd.config.problems import ConfigError  # noqa: PLC0415  (see check)
    from jlabd.config.read import load  # noqa: PLC0415
    from jlabd.daemon import app  # noqa: PLC0415

    try:
        load(path)
    except ConfigError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return 1
    print(f"jlabd {__version__} can start ({app.__name__})")
    return 0


def serve(path: Path) -> int:
    """Run the daemon until it is asked to end; returns the exit status."""
    from jlabd.daemon import signals  # noqa: PLC0415  (see check)

    signals.hold_back()
    faulthandler.enable()  # where it hung is in the log when systemd's watchdog sends SIGABRT
    from jlabd.config.apart import reading_command, what_was_read  # noqa: PLC0415
    from jlabd.config.problems import ConfigError  # noqa: PLC0415

    reading = subprocess.Popen(reading_command(str(path)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    # Meanwhile:
    from jlabd.daemon.app import App  # noqa: PLC0415
    from jlabd.daemon.lock import AlreadyRunningError  # noqa: PLC0415
    from jlabd.daemon.logging import configure  # noqa: PLC0415
    from jlabd.files import FolderError  # noqa: PLC0415

    try:
        output, _ = reading.communicate()
        loaded = what_was_read(str(path), reading.returncode, output)
    except ConfigError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return 1
    print(*loaded.problems, sep="\n", end="\n" if loaded.problems else "", file=sys.stderr)
    configure(loaded.configuration.daemon.log_level, loaded.configuration.daemon.log_format)

    async def run() -> None:
        await App(loaded).run()

    try:
        asyncio.run(run())
    except (AlreadyRunningError, FolderError, OSError) as error:
        print(f"jlabd cannot start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
