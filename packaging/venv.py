# ruff: noqa: INP001  (a program to run, not a package)
"""Make a virtual environment from lock files, or see at once that it stands already.

    python3 packaging/venv.py FOLDER [--project] LOCK [LOCK…]

The locks are installed in order, one on top of the other, by plain pip with hashes; `--project` adds this checkout
itself, editable and without network. What stands is recorded in FOLDER/.made, by content: a lock that changed, another
Python, a moved folder or a run that was interrupted are noticed and put right by the next run. Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PIP = (
    "-m",
    "pip",
    "install",
    "--disable-pip-version-check",
    "--no-input",
    "--root-user-action=ignore",
    "--progress-bar=off",
)
NOISE = "WARNING: Location"
"""A configured folder of wheels that lacks one package: pip says so for every package."""


class SetupFailedError(Exception):
    """A step failed; the text is all that the user has to know."""


def main() -> int:
    """Bring one environment up to date. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Make a virtual environment from lock files.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("locks", type=Path, nargs="+")
    parser.add_argument("--project", action="store_true", help="install this checkout too, editable")
    asked = parser.parse_args()
    try:
        with alone_in(asked.folder):
            bring_up_to_date(asked.folder, asked.locks, project=asked.project)
    except (SetupFailedError, OSError) as error:
        print(f"{asked.folder}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{asked.folder}: interrupted; the next run begins where this one stopped", file=sys.stderr)
        return 130
    return 0


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder against a second run of this program; make it first if need be. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: another run is setting it up, waiting for it", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def bring_up_to_date(folder: Path, locks: list[Path], *, project: bool) -> None:
    """Do what is not recorded as done. Raises SetupFailedError and OSError."""
    made = folder / ".made"
    first = locks[0]
    if not stands(made / first.name, identity(folder, first)):
        create(folder)
        made.mkdir()
    steps = [(lock, ["--require-hashes", "--requirement", str(lock)]) for lock in locks]
    if project:
        # "compat" is one line in a .pth; the default is an import hook that costs every start of Python 20 ms.
        editable = ["--config-settings=editable_mode=compat", "--editable", str(TOP)]
        editable += ["--no-deps", "--no-index", "--no-build-isolation"]
        steps.insert(1, (TOP / "pyproject.toml", editable))
    for source, arguments in steps:
        stamp, wanted = made / source.name, identity(folder, source)
        if not stands(stamp, wanted):
            stamp.unlink(missing_ok=True)
            install(folder, source, arguments)
            stamp.write_text(wanted)


def identity(folder: Path, source: Path) -> str:
    """Return a digest of everything that an installed `source` depends on. Raises OSError."""
    parts = [str(folder.resolve()), os.path.realpath(sys.executable), sys.version, source.read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def stands(stamp: Path, wanted: str) -> bool:
    """Say whether the step was completed with exactly this content."""
    try:
        return stamp.read_text() == wanted
    except OSError:
        return False


def create(folder: Path) -> None:
    """Make an empty environment, whatever was there before. Raises SetupFailedError."""
    print(f"{folder}: making it with Python {sys.version.split()[0]}", flush=True)
    command = [sys.executable, "-m", "venv", "--clear", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise SetupFailedError(f"{done.stdout}Python could not make it. On Debian and Ubuntu: apt install python3-venv")


def install(folder: Path, source: Path, arguments: list[str]) -> None:
    """Run pip for one step, with progress. Raises SetupFailedError with pip's own words."""
    total = sum(not line.startswith((" ", "#")) for line in source.read_text().splitlines())
    what = "jlabd itself" if source.name == "pyproject.toml" else f"{total} packages of {source.name}"
    print(f"{folder}: installing {what}", flush=True)
    command = [str(folder / "bin" / "python"), *PIP, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None
        said = list(follow(pip.stdout, total))
    if pip.returncode != 0:
        raise SetupFailedError("pip failed; its last words:\n" + "\n".join(said[-15:]))


def follow(lines: Iterable[str], total: int) -> Iterator[str]:
    """Pass on what pip says, without the noise, and show how far it has come."""
    seen = 0
    for line in lines:
        if line.startswith(NOISE):
            continue
        yield line.rstrip()
        if line.startswith("Collecting "):
            seen += 1
            show(f"  {seen} of {total}: {line.split()[1]}", every=seen % 25 == 0)
        elif line.startswith("Installing collected"):
            show("  unpacking", every=True)
    clear_line()


def show(text: str, *, every: bool) -> None:
    """Say how far it is: on a terminal always, on one line; elsewhere now and then."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text[:100]}", end="", flush=True)
    elif every:
        print(text, flush=True)


def clear_line() -> None:
    """Leave no half line behind on a terminal."""
    if sys.stdout.isatty():
        print("\r\033[K", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
