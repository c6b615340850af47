# ruff: noqa: INP001  (a program to run, not a package)
"""Make the pictures of the README: the real status page in a real browser, with an example of a team's labs.

make screenshots
"""

from __future__ import annotations

import hashlib
import socket
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tests"))

from rig.chromium import chromium  # noqa: E402
from rig.stage import Stage, entry  # noqa: E402

PICTURES = {  # name → width, height, scale, colour scheme
    "status-light": (1280, 900, 1, "light"),
    "status-dark": (1280, 900, 1, "dark"),
    "status-phone": (390, 844, 2, "light"),
}


CRASHED = "the server exited with status 1 (3 times in a row)"
ASLEEP = "asleep: no activity for 2 h"
MISSING = "JupyterLab is not installed in /opt/old: run /opt/old/bin/pip install jupyterlab"


def sources() -> str:
    """Return what tells whether the pictures are of the page as it is: a line for each file that says how it looks."""
    files = [*TOP.glob("jlabd/status/templates/*"), *TOP.glob("jlabd/look/templates/*"), Path(__file__).resolve()]
    digests = {file.relative_to(TOP): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return "".join(f"{digest}  {file}\n" for file, digest in sorted(digests.items()))


def example() -> Stage:
    """Return the labs of a small group on an ordinary day."""
    labs = [
        entry("alice", kernels=3, cpu_percent=187.0, memory_bytes=3_400_000_000, ago_s=5 * 86400),
        entry("bob", reason="taken over from an earlier jlabd", cpu_percent=3.0, memory_bytes=610_000_000, ago_s=98000),
        entry("carol", "starting", "start requested by carol", ago_s=1, cpu_percent=96.0, memory_bytes=61_000_000),
        entry(
            "dmitri",
            "backoff",
            CRASHED,
            ago_s=4,
            restarts=3,
            url="http://lab.example.com/dmitri/",
        ),
        entry("erin", "idle", ASLEEP, ago_s=11000),
        entry("frank", "failed", MISSING, ago_s=700),
        entry("grace", kernels=12, cpu_percent=44.0, memory_bytes=12_900_000_000, ago_s=19 * 3600, restarts=1),
        entry("teaching", kernels=0, cpu_percent=0.4, memory_bytes=88_000_000, user="service", ago_s=40 * 86400),
        entry("zoe", "stopped", "stop requested by zoe", ago_s=3 * 86400),
    ]
    return Stage(*labs)


def dress(stage: Stage) -> None:
    """Give the labs a past."""
    for number, lab in enumerate(stage.instances.values()):
        if lab["cpu_percent"] is not None and lab["state"] != "starting":
            stage.remember(lab["name"], number)
    stage.record("grace", "memory", None, "a process of it was killed by the kernel: memory limit 16 GiB", ago_s=9000)
    stage.record("erin", "state", "idle", ASLEEP, ago_s=8000)
    stage.record(
        None, "reload", None, "configuration reloaded by root: 0 added, 1 changed, 0 removed, 8 untouched", ago_s=710
    )
    stage.record("frank", "state", "failed", MISSING, ago_s=700)
    stage.record("dmitri", "state", "backoff", CRASHED, ago_s=4)
    stage.record("carol", "state", "starting", "start requested by carol", ago_s=1)


def main() -> int:
    """Write the pictures into docs/pictures."""
    socket.gethostname = lambda: "lab.example.com"
    folder = TOP / "docs/pictures"
    folder.mkdir(exist_ok=True)
    with chromium() as browser, example() as stage:
        dress(stage)
        for name, (width, height, scale, scheme) in PICTURES.items():
            options = {"viewport": {"width": width, "height": height}, "device_scale_factor": scale}
            with browser.visitor(color_scheme=scheme, **options) as visitor:
                visitor.open(stage.address)
                visitor.page.get_by_text("Live", exact=True).wait_for()
                visitor.page.wait_for_timeout(300)  # the graphs are drawn when they come into sight
                visitor.page.screenshot(path=folder / f"{name}.png")
                print(folder / f"{name}.png")
                assert not visitor.complaints, visitor.complaints
    (folder / "SOURCES").write_text(sources())
    return 0


if __name__ == "__main__":
    sys.exit(main())
