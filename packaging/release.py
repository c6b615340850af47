# ruff: noqa: INP001  (a program to run, not a package)
"""Make a release: the version, the section of the changelog, a commit and a tag, and everything that is published.

    .venv/bin/python packaging/release.py VERSION [--output FOLDER] [--dist el9 …]
    .venv/bin/python packaging/release.py VERSION --rebuild

What is published: the RPMs and the source package, the wheel, a bill of materials, the notes, and checksums of all of
them. It is built from the tag alone, whatever lies about in the checkout, and so `--rebuild` gives the same bytes
again, anywhere. Nothing is pushed or uploaded.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import rpm as builder  # packaging/rpm.py: the folder of this program comes first
import sbom

TOP = Path(__file__).resolve().parent.parent
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
UNRELEASED = "## [Unreleased]\n"
CHANGED = ("jlabd/__init__.py", "CHANGELOG.md")
"""What a release commit touches."""


class ReleaseError(Exception):
    """The release cannot be made; the text says why. Nothing was committed."""


def main() -> int:
    """Release what was asked for. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Make a release of jlabd.")
    parser.add_argument("version", help="like 1.2.3")
    parser.add_argument("--output", type=Path, default=TOP / "dist", help="default: dist")
    parser.add_argument("--dist", nargs="+", default=builder.DISTS, help="default: el9 el10")
    parser.add_argument("--date", default=dt.datetime.now(tz=dt.UTC).date().isoformat(), help="default: today")
    parser.add_argument("--rebuild", action="store_true", help="only build again what has the version's tag")
    parser.add_argument("--quick", action="store_true", help="compress little: for tests")
    asked = parser.parse_args()
    try:
        if not asked.rebuild:
            prepare(asked.version, asked.date)
        for path in publish(asked.version, asked.output.resolve(), asked.dist, quick=asked.quick):
            print(path)
    except (ReleaseError, builder.BuildFailedError, sbom.UnknownLicenceError, OSError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(version: str, date: str) -> None:
    """Write the version and the changelog, commit, and tag. Raises ReleaseError."""
    if git("status", "--porcelain"):
        raise ReleaseError("there are changes that are not committed: commit or remove them first")
    _refuse_strange_version(version)
    changelog = TOP / "CHANGELOG.md"
    changelog.write_text(with_section(changelog.read_text(encoding="utf-8"), version, date), encoding="utf-8")
    init = TOP / "jlabd/__init__.py"
    text = init.read_text(encoding="utf-8")
    init.write_text(re.sub(r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"', text), encoding="utf-8")
    git("add", "--", *CHANGED)
    git("commit", "--quiet", "--message", f"Release {version}")
    git("tag", "--annotate", f"v{version}", "--message", f"jlabd {version}")


def _refuse_strange_version(version: str) -> None:
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"{version} is no version like 1.2.3")
    if git("tag", "--list", f"v{version}"):
        raise ReleaseError(f"there is a tag v{version} already; --rebuild builds it again")
    tags = [tag.removeprefix("v") for tag in git("tag", "--list", "v*").split()]
    newer = [tag for tag in tags if VERSION.fullmatch(tag) and numbers(tag) > numbers(version)]
    if newer:
        raise ReleaseError(f"{version} comes before {max(newer, key=numbers)}, which is released")


def numbers(version: str) -> tuple[int, ...]:
    """Return what versions are compared by."""
    return tuple(int(part) for part in version.split("."))


def with_section(changelog: str, version: str, date: str) -> str:
    """Return the changelog in which what was unreleased is the section of `version`. Raises ReleaseError."""
    before, found, after = changelog.partition(UNRELEASED)
    changes, _, _ = after.partition("\n## [")
    if not found or not changes.strip():
        raise ReleaseError("CHANGELOG.md has nothing under [Unreleased]: what would be new in this release?")
    return f"{before}{UNRELEASED}\n## [{version}] - {date}\n{after}"


def section(changelog: str, version: str) -> str:
    """Return what the changelog says of a version. Raises ReleaseError."""
    found = re.search(rf"(?ms)^## \[{re.escape(version)}\] - \S+\n(.*?)(?=^## \[|\Z)", changelog)
    if found is None:
        raise ReleaseError(f"CHANGELOG.md has no section [{version}]")
    return found[1].strip() + "\n"


def publish(version: str, output: Path, dists: Sequence[str], *, quick: bool) -> list[Path]:
    """Build everything from the tag of `version` into `output`; return where it is. Raises ReleaseError and more."""
    epoch = int(git("log", "-1", "--format=%ct", f"v{version}^{{commit}}"))
    with tempfile.TemporaryDirectory(prefix="jlabd-release-") as folder:
        source = Path(folder, "source")
        source.mkdir()
        run(["sh", "-c", 'git archive "$1" | tar -x -C "$2"', "sh", f"v{version}", str(source)])
        if builder.version_of(source) != version:
            raise ReleaseError(f"what is tagged v{version} says that it is {builder.version_of(source)}")
        made = builder.build(source, output, dists, epoch=epoch, quick=quick)
        made.append(build_wheel(source, output, epoch))
        made += write_papers(version, source, output, epoch)
    made.append(write_sums(output / "SHA256SUMS", made))
    return made


def build_wheel(source: Path, output: Path, epoch: int) -> Path:
    """Build the wheel, for `pip install`, and return where it is."""
    before = set(output.glob("*.whl"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    run([*command, str(output), str(source)], {"SOURCE_DATE_EPOCH": str(epoch)})
    wheel = output / f"jlabd-{builder.version_of(source)}-py3-none-any.whl"
    if not wheel.is_file():
        raise ReleaseError(f"pip made {sorted(set(output.glob('*.whl')) - before)}, not {wheel.name}")
    return wheel


def write_papers(version: str, source: Path, output: Path, epoch: int) -> list[Path]:
    """Write the bill of materials and the notes; return where they are."""
    wheels = builder.fetch_wheels(builder.find_python(), source / builder.LOCK)
    bill = output / f"jlabd-{version}.cdx.json"
    needs = sbom.direct(source / "pyproject.toml")
    text = sbom.document(version, [sbom.read(path) for path in wheels.iterdir()], needs, epoch)
    bill.write_text(text, encoding="utf-8")
    notes = output / f"jlabd-{version}.md"
    notes.write_text(section((source / "CHANGELOG.md").read_text(encoding="utf-8"), version), encoding="utf-8")
    return [bill, notes]


def write_sums(path: Path, files: Sequence[Path]) -> Path:
    """Write the checksums of files that lie beside it, as sha256sum checks them; return where they are."""
    lines = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(files))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def git(*words: str) -> str:
    """Run git; return what it printed. Raises ReleaseError."""
    return run(["git", *words]).strip()


def run(command: Sequence[str], more: dict[str, str] | None = None) -> str:
    """Run a command in the checkout to its end; return what it printed. Raises ReleaseError."""
    done = subprocess.run(
        command, cwd=TOP, check=False, capture_output=True, text=True, env={**os.environ, **(more or {})}
    )
    if done.returncode != 0:
        raise ReleaseError(f"{' '.join(command[:3])} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
