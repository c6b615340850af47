"""Putting the launcher scripts where every instance's user can read them.

The package may lie in a folder that other accounts cannot enter, so the daemon copies the scripts at its start.
"""

from __future__ import annotations

from pathlib import Path

from jlabd.files import write_atomically
from jlabd.jupyter.folder import make_own_folder

SCRIPTS = (
    "lab.py",
    "activity.py",
    "relay.py",
    "warm.py",
    "newborn.py",
    "captured.py",
    "trust.py",
    "kernelstart.py",
    "kernelasync.py",
)
SOURCE = Path(__file__).resolve().parent.parent / "launcher"


def install(runtime_dir: str) -> str:
    """Copy the scripts into the folder `launcher` of `runtime_dir`, and return that folder. Raises OSError.

    Nobody but the daemon's own account may be able to write `runtime_dir`.
    """
    folder = make_own_folder(f"{runtime_dir}/launcher", 0o755)
    for script in SCRIPTS:
        write_atomically(Path(folder) / script, (SOURCE / script).read_bytes(), mode=0o644)
    return folder
