"""Small web servers as instances: for tests of supervision that need no JupyterLab."""

import sys
from pathlib import Path

CHILD = Path(__file__).parent.parent / "children/web.py"


def web(name, *words, **keys):
    """Return the TOML of a small web server that may misbehave (see tests/children/web.py)."""
    command = [sys.executable, str(CHILD), *words]
    keys.setdefault("restart", '{ initial = "200ms" }')
    keys.setdefault("root_dir", '"{folder}/home"')
    lines = [f"{key} = {value}" for key, value in keys.items()]
    return "\n".join([f"[instance.{name}]", f"command = {command!r}", *lines, ""])
