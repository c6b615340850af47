"""Everything that is compared, in one run: `make bench`. Writes docs/benchmarks.md and docs/benchmarks.svg.

    .venv/bin/python benchmarks/bench.py [--quick]

Takes about half an hour on two cores, and wants them for itself. `--quick` measures little, for trying it out.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
from collections.abc import Iterator
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
    parser.add_argument("--again", action="store_true", help="measure nothing: write the report of the last figures")
    asked = parser.parse_args()
    kept = TOP / ".cache/bench/figures.json"
    if not asked.again:
        kept.parent.mkdir(parents=True, exist_ok=True)
        for figures in measure(quick=asked.quick):
            kept.write_text(json.dumps(figures, indent=2))
    figures = json.loads(kept.read_text())
    (TOP / "docs/benchmarks.md").write_text(report.written(figures))
    drawing = [f"{OTHERS}/python", str(Path(__file__).parent / "plot.py"), str(kept), str(TOP / "docs/benchmarks.svg")]
    subprocess.run(drawing, check=True)


def measure(*, quick: bool) -> Iterator[dict[str, Any]]:
    """Yield all figures so far, and where and of what they are, after each group of them."""
    found: dict[str, Any] = {"about": about(), "programs": [], "labs": []}
    for count in [1] if quick else [1, 10, 50]:
        only = {"Jlabd", "Plain"} if count == MANY_LABS else None
        found["labs"] += [asdict(figures) for figures in labs.measure_all([count], only)]
        yield found
    for count in [10] if quick else [10, 100, 300]:
        found["programs"] += [asdict(figures) for figures in programs.measure_all([count])]
        yield found


def about() -> dict[str, str]:
    """Return what was measured, and on what."""
    names = ("supervisor", "circus", "JupyterHub", "JupyterLab")
    asking = f"from importlib.metadata import version; print(*map(version, {names!r}))"
    told = subprocess.run([f"{OTHERS}/python", "-c", asking], capture_output=True, text=True, check=True).stdout
    pm2 = json.loads((NODE.parent / "pm2/package.json").read_text())["version"]
    kernel = platform.release().partition("-")[0]
    return {
        "day": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Linux {kernel}, Python {platform.python_version()}",
        "jlabd": version("jlabd"),
        **dict(zip(names, told.split(), strict=True)),
        "pm2": pm2,
    }


if __name__ == "__main__":
    main()
