"""Everything that is compared, in one run: `make bench`. Writes docs/benchmarks.md and docs/benchmarks.svg.

    .venv/bin/python benchmarks/bench.py [--quick] [--only labs|programs]

Takes about half an hour on two cores, and wants them for itself. `--quick` measures little, for trying it out.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import labs
import programs
import report
from contenders import NODE, OTHERS, TOP

MANY_LABS = 50
"""So many take long: only the two that the difference is about."""


def main() -> None:
    """Measure, keep the figures in .cache/bench, and write the report."""
    parser = argparse.ArgumentParser(description="Compare jlabd with what one would run instead.")
    parser.add_argument("--quick", action="store_true", help="measure little")
    parser.add_argument("--only", choices=GROUPS, help="measure this group, and keep the last figures of the other")
    parser.add_argument("--again", action="store_true", help="measure nothing: write the report of the last figures")
    asked = parser.parse_args()
    kept = TOP / ".cache/bench/figures.json"
    if not asked.again:
        kept.parent.mkdir(parents=True, exist_ok=True)
        if asked.only and not kept.exists():
            parser.error(f"{kept} is not there: measure everything first, without --only")
        before = json.loads(kept.read_text()) if asked.only else {}
        for figures in measure(before, [asked.only] if asked.only else [*GROUPS], quick=asked.quick):
            kept.write_text(json.dumps(figures, indent=2))
    figures = json.loads(kept.read_text())
    (TOP / "docs/benchmarks.md").write_text(report.written(figures))
    drawing = [f"{OTHERS}/python", str(Path(__file__).parent / "plot.py"), str(kept), str(TOP / "docs/benchmarks.svg")]
    subprocess.run(drawing, check=True)


def measure(before: dict[str, Any], groups: Sequence[str], *, quick: bool) -> Iterator[dict[str, Any]]:
    """Yield `before` with all new figures so far, and where, when and of what they are, after each part of them."""
    found: dict[str, Any] = {**before, "about": about()}
    for group in groups:
        found[group], found[f"{group}_day"] = [], dt.datetime.now(dt.UTC).date().isoformat()
        for figures in GROUPS[group](quick):
            found[group] += map(asdict, figures)
            yield found


def measure_labs(quick: bool) -> Iterator[Sequence[Any]]:
    """Yield the figures of so many labs after each other."""
    for count in [1] if quick else [1, 10, MANY_LABS]:
        yield labs.measure_all([count], {"Jlabd", "Plain"} if count == MANY_LABS else None)


def measure_programs(quick: bool) -> Iterator[Sequence[Any]]:
    """Yield the figures of so many programs after each other."""
    for count in [10] if quick else [10, 100, 300]:
        yield programs.measure_all([count])


GROUPS: dict[str, Callable[[bool], Iterator[Sequence[Any]]]] = {"labs": measure_labs, "programs": measure_programs}


def about() -> dict[str, str]:
    """Return what was measured, and on what."""
    names = ("supervisor", "circus", "JupyterHub", "JupyterLab")
    asking = f"from importlib.metadata import version; print(*map(version, {names!r}))"
    told = subprocess.run([f"{OTHERS}/python", "-c", asking], capture_output=True, text=True, check=True).stdout
    pm2 = json.loads((NODE.parent / "pm2/package.json").read_text())["version"]
    kernel = platform.release().partition("-")[0]
    return {
        "machine": f"{os.cpu_count()} cores, Linux {kernel}, Python {platform.python_version()}",
        "jlabd": version("jlabd"),
        **dict(zip(names, told.split(), strict=True)),
        "pm2": pm2,
    }


if __name__ == "__main__":
    main()
