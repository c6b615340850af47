"""Draw the figures: python plot.py FIGURES.json OUTPUT.svg (by the Python of .venv-bench, which has matplotlib)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "jlabd"
import matplotlib.pyplot as plt  # noqa: E402  (after the backend was chosen)

OURS, OTHERS = "#1f77b4", "#b0b7bf"
PANELS = (
    ("labs", 10, "ready_s", "10 labs: seconds until all answer", 1.0),
    ("labs", 10, "pss_bytes", "10 labs: memory in MB", 1e-6),
    ("labs", 1, "page_s", "from click to page, in seconds", 1.0),
    ("programs", 100, "start_s", "100 programs: seconds until all run", 1.0),
    ("programs", 100, "respawn_s", "respawn after kill -9, in ms", 1e3),
    ("programs", 300, "rss_bytes", "manager of 300 programs: memory in MB", 1e-6),
)
"""Which figures, of how many, under which title, times which factor."""


def draw(figures: dict[str, Any], output: Path) -> None:
    """Draw all panels that have figures into one file."""
    found = [(panel, rows) for panel in PANELS if (rows := _rows(figures, panel))]
    _, axes = plt.subplots((len(found) + 1) // 2, 2, figsize=(11, 2.1 * ((len(found) + 1) // 2)), squeeze=False)
    for axis, (panel, rows) in zip(axes.flat, found, strict=False):
        names, values = zip(*reversed(rows), strict=True)
        bars = axis.barh(names, values, color=[OURS if name.startswith("jlabd") else OTHERS for name in names])
        axis.bar_label(bars, fmt=lambda value: f"{value:.3g}", padding=3)
        axis.set_title(panel[3], fontsize=10, loc="left")
        axis.set_xticks([])
        axis.margins(x=0.15)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    plt.tight_layout()
    plt.savefig(output, metadata={"Date": None})


def _rows(figures: dict[str, Any], panel: tuple[str, int, str, str, float]) -> list[tuple[str, float]]:
    kind, count, key, _, factor = panel
    rows = [row for row in figures[kind] if row["count"] == count and row[key] is not None]
    return [(row["contender"], row[key] * factor) for row in rows]


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
