"""The entry point: reads one order as JSON from stdin (so that nothing of it is seen in a list of processes), obeys.

{"verb": "add" or "remove", "config": path, "name": …, "values": {key: value}, "settings": ["key.key=value" …]}
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import sys
import tomllib
from pathlib import Path
from typing import Any

from jlabd.amend.settings import SettingError, merged
from jlabd.config.amend import add, remove
from jlabd.config.problems import ConfigError

USAGE = 2


def main() -> int:
    """Change the file, and say what was done; returns the exit status."""
    order = json.load(sys.stdin)
    path = Path(order["config"])
    try:
        _may_write(path)
        print(_obey(order, path), flush=True)
    except SettingError as error:
        return _complain(str(error), USAGE)
    except ConfigError as error:
        return _complain(f"{error}\njlabctl: nothing was changed", 1)
    except PermissionError as error:
        return _complain(f"{error.filename or path} is not yours to change; try: sudo jlabctl {order['verb']} …", 1)
    except OSError as error:
        return _complain(f"{path}: {error.strerror or error}; nothing was changed", 1)
    return 0


def _obey(order: dict[str, Any], path: Path) -> str:
    name = order["name"]
    if order["verb"] == "remove":
        return f"{name} was removed from {remove(path, name)}"
    values = merged(order["values"], order["settings"])
    return f"{name} was added at {add(path, name, _with_user(path, name, values))}"


def _with_user(path: Path, name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Add the account of the same name where one has to be said, none was, and there is such an account."""
    if os.geteuid() != 0 or "user" in values or "user" in _defaults(path):
        return values
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):
        return values
    return {"user": name, **values}


def _defaults(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text()).get("defaults", {})
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _may_write(path: Path) -> None:
    """Raise PermissionError at once if nothing can come of it, OSError if there is no such file."""
    if not os.access(path.resolve(strict=True).parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _complain(text: str, status: int) -> int:
    print(f"jlabctl: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
