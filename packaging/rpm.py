# ruff: noqa: INP001  (a program to run, not a package)
"""Build the RPMs of jlabd: one for each dist tag, and the source package they can be built from again.

    python3 packaging/rpm.py [--output FOLDER] [--dist el9 …]

Needs rpmbuild and a CPython 3.12 with pip (PYTHON312 names one that is not found). The wheels come from PyPI, checked
against the hashes in packaging/lock/runtime.txt, and are kept in .cache. The same sources give the same bytes: every
time is that of SOURCE_DATE_EPOCH, or of the last commit. Standard library only.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
SPEC = Path("packaging/jlabd.spec")
LOCK = Path("packaging/lock/runtime.txt")
SHIPPED = ("jlabd", "packaging", "etc", "docs", "LICENSE", "README.md", "CHANGELOG.md", "ARCHITECTURE.md")
SHIPPED += ("pyproject.toml",)
LEFT_OUT = ("__pycache__", "demo")
"""The demo brings an nginx and a JupyterLab of its own, which are not packaged."""
DISTS = ("el9", "el10")
# The glibc of EL 9 is 2.34; what was built for an older one runs there.
PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PYTHONS = {
    "/usr/bin": "python3.12",
    "~/.pyenv/versions": "3.12*/bin/python3.12",
    "~/.local/share/uv/python": "cpython-3.12*/bin/python3.12",
}
"""Where a CPython 3.12 usually is: folder and pattern."""


class BuildFailedError(Exception):
    """A step failed; the text is all that the user has to know."""


def main() -> int:
    """Build what was asked for. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Build the RPMs of jlabd.")
    parser.add_argument("--output", type=Path, default=TOP / "dist", help="default: dist")
    parser.add_argument("--source", type=Path, default=TOP, help="the checkout to build; default: this one")
    parser.add_argument("--dist", nargs="+", default=DISTS, help="default: el9 el10")
    parser.add_argument("--quick", action="store_true", help="compress little: for tests")
    asked = parser.parse_args()
    try:
        for package in build(asked.source, asked.output, asked.dist, quick=asked.quick):
            print(package)
    except (BuildFailedError, OSError) as error:
        print(f"make rpm: {error}", file=sys.stderr)
        return 1
    return 0


def build(
    source: Path, output: Path, dists: Sequence[str], *, epoch: int | None = None, quick: bool = False
) -> list[Path]:
    """Build the source package and the packages for each dist tag into `output`; return where they are.

    `epoch` is the time, in seconds since 1970, that everything in them gets; if not told: see `source_date`.
    Raises BuildFailedError, OSError.
    """
    if shutil.which("rpmbuild") is None:
        raise BuildFailedError("there is no rpmbuild: dnf install rpm-build, or apt install rpm")
    python = find_python()
    epoch = source_date(source) if epoch is None else epoch
    wheels = fetch_wheels(python, source / LOCK)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="jlabd-rpm-") as folder:
        place = Path(folder)
        prepare(source, wheels, place, epoch)
        # A source package keeps the spec with all macros expanded: no path may be in them.
        rpmbuild(["-bs", *macros(Path(), {"dist": "%{nil}"})], place, epoch)
        for dist in dists:
            more = {"dist": f".{dist}", "build_python": python, **({"_binary_payload": "w1.zstdio"} if quick else {})}
            rpmbuild(["-bb", *macros(place, more)], place, epoch)
        return [Path(shutil.copy(made, output)) for made in sorted(place.glob("*RPMS/**/*.rpm"))]


def rpmbuild(arguments: Sequence[str], place: Path, epoch: int) -> None:
    """Run rpmbuild in `place`, for the spec that is there. Raises BuildFailedError with the end of what it said."""
    command = ["rpmbuild", *arguments, SPEC.name]
    run(command, {"SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8", "TZ": "UTC"}, place)


def macros(place: Path, more: dict[str, str]) -> list[str]:
    """Return the options that make rpmbuild work below `place`, and write the same bytes everywhere."""
    elsewhere = not output_of(["rpm", "--eval", "%{?_unitdir}"]).strip()
    options = ["--load", str(TOP / "packaging/rpm/el.macros"), "--nodeps"] if elsewhere else []
    settings = {
        "_topdir": place,
        "_sourcedir": place,
        "_builddir": place / "build",
        "_buildrootdir": place / "root",
        "_buildhost": "localhost",
        "use_source_date_epoch_as_buildtime": 1,
        "clamp_mtime_to_source_date_epoch": 1,
        **more,
    }
    for name, value in settings.items():
        options += ["--define", f"{name} {value}"]
    return options


def prepare(source: Path, wheels: Path, place: Path, epoch: int) -> None:
    """Write the sources and the spec, with what only we know, into `place`."""
    version = version_of(source)
    write_tar(place / f"jlabd-{version}.tar.gz", f"jlabd-{version}", source, files_of(source), epoch)
    write_tar(place / f"jlabd-wheels-{version}.tar", "wheels", wheels, sorted(wheels.iterdir()), epoch)
    bundled = [
        f"Provides: bundled(python3dist({name})) = {pinned}" for name, pinned in sorted(names_of(wheels).items())
    ]
    known = {
        "upstream_version": version,
        "release_day": time.strftime("%a %b %d %Y", time.gmtime(epoch)),
        "bundled_wheels": "%{expand:\n" + "\n".join(bundled) + "\n}",
    }
    spec = (source / SPEC).read_text(encoding="utf-8")
    for name, value in known.items():
        spec, found = re.subn(rf"(?m)^%global {name} .*$", lambda _, n=name, v=value: f"%global {n} {v}", spec)
        if found != 1:
            raise BuildFailedError(f"{SPEC} has no line '%global {name}'")
    (place / SPEC.name).write_text(spec, encoding="utf-8")
    for path in place.iterdir():  # the source package keeps modes and times
        path.chmod(0o644)
        os.utime(path, (epoch, epoch))


def version_of(source: Path) -> str:
    """Return the version of the checkout."""
    found = re.search(
        r'^__version__ = "(.+)"$', (source / "jlabd/__init__.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    if found is None:
        raise BuildFailedError("jlabd/__init__.py has no __version__")
    return found[1]


def names_of(wheels: Path) -> dict[str, str]:
    """Return name → version of the wheels in a folder."""
    return {
        name.lower().replace("_", "-"): version
        for name, version, *_ in (wheel.name.split("-") for wheel in wheels.iterdir())
    }


def files_of(source: Path) -> Iterator[Path]:
    """Yield the files that belong into the source package, in order."""
    for top in SHIPPED:
        for path in sorted((source / top).rglob("*")) if (source / top).is_dir() else [source / top]:
            if path.is_file() and not set(LEFT_OUT) & set(path.relative_to(source).parts):
                yield path


def write_tar(target: Path, prefix: str, top: Path, files: Iterable[Path], epoch: int) -> None:
    """Write a tar of `files`, which lie below `top`, whose bytes depend on nothing but their names and content."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = epoch
        entry.mode = 0o755 if entry.mode & 0o100 else 0o644
        return entry

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in files:
            tar.add(path, f"{prefix}/{path.relative_to(top)}", filter=plain)
    content = data.getvalue()
    if target.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    target.write_bytes(content)


def fetch_wheels(python: str, lock: Path) -> Path:
    """Return the folder with the wheels that `lock` names, downloaded if they are not there yet."""
    folder = TOP / ".cache/rpm" / f"wheels-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        command = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--python-version", "3.12"]
        command += ["--implementation", "cp", *(f"--platform={name}" for name in PLATFORMS)]
        run([*command, "--dest", f"{made}/wheels", "--requirement", str(lock)], {})
        Path(made, "wheels").rename(folder)
    return folder


def find_python() -> str:
    """Return the path of a CPython 3.12 with pip. Raises BuildFailedError."""
    named = os.environ.get("PYTHON312")
    places = [(Path(folder).expanduser(), pattern) for folder, pattern in PYTHONS.items()]
    found = [named] if named else [path for folder, pattern in places for path in sorted(folder.glob(pattern))]
    proof = "import sys, pip; sys.exit(sys.version_info[:2] != (3, 12) or sys.implementation.name != 'cpython')"
    for python in found:
        if subprocess.run([python, "-c", proof], check=False, capture_output=True).returncode == 0:
            return str(python)
    raise BuildFailedError(
        "there is no CPython 3.12 with pip, for which the package is. Name one: make rpm PYTHON312=/path/to/python3.12 "
        "(EL: dnf install python3.12-pip; elsewhere: pyenv install 3.12, or uv python install 3.12)"
    )


def source_date(source: Path) -> int:
    """Return the time, in seconds since 1970, that everything in the packages gets."""
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(epoch)
    asked = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=source, check=False, capture_output=True, text=True
    )
    return int(asked.stdout) if asked.returncode == 0 else int((source / "CHANGELOG.md").stat().st_mtime)


def output_of(command: Sequence[str]) -> str:
    """Return what a command prints. Raises BuildFailedError."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildFailedError(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def run(command: Sequence[str], more: dict[str, str], folder: Path = TOP) -> None:
    """Run a command in `folder` to its end, `more` in its environment. Raises BuildFailedError with its last words."""
    done = subprocess.run(
        command,
        cwd=folder,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **more},
    )
    if done.returncode != 0:
        raise BuildFailedError(f"{Path(command[0]).name} failed:\n{done.stdout[-3000:]}")


if __name__ == "__main__":
    sys.exit(main())
