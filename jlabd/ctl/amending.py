"""`jlabctl add` and `remove`: what they take, and how they have it done."""

from __future__ import annotations

import os

from jlabd.control.client import UnreachableError, request
from jlabd.control.wire import dumps, loads
from jlabd.ctl.failure import DONE, USAGE, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

DEFAULT_CONFIG = "/etc/jlabd.toml"

_TEXTS = (
    ("--user", "user", "ACCOUNT", "account that it runs as; for root by default the one called NAME, if there is one"),
    ("--root-dir", "root_dir", "PATH", "folder that its file browser shows; by default the home"),
    ("--venv", "venv", "PATH", "Python environment with its JupyterLab"),
    ("--server-name", "server_name", "HOST", "host name of its own, at /"),
    ("--base-url", "base_url", "/PATH/", "path of its address; by default /NAME/"),
    ("--listen", "listen", "WHERE", "unix, a port, or HOST:PORT"),
    ("--umask", "umask", "0077", "for the files that it makes"),
    ("--stop-after", "idle.stop_after", "TIME", 'time without activity after which it goes to sleep, like "2h"'),
    ("--memory-max", "limits.memory_max", "SIZE", 'memory of all that it runs, like "4G"'),
    ("--cpu-quota", "limits.cpu_quota", "SHARE", 'CPU time of all that it runs, like "200%%" for two cores'),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `jlabctl add` takes."""
    parser.add_argument("name", metavar="NAME")
    for option, key, metavar, what in _TEXTS:
        parser.add_argument(option, dest=key, metavar=metavar, help=what)
    parser.add_argument("--on-demand", action="store_true", help="start it when somebody opens its address")
    parser.add_argument("--no-autostart", action="store_true", help="do not start it together with jlabd")
    parser.add_argument("--password", action="store_true", help="ask for a password for it, twice")
    parser.add_argument("--stdin", action="store_true", help="read its password from the first line of stdin")
    parser.add_argument(
        "--set", dest="settings", metavar="KEY=VALUE", action="append", default=[], help="any other key of an instance"
    )
    common_options(parser)


def common_options(parser: argparse.ArgumentParser) -> None:
    """Add what both commands take."""
    parser.add_argument("--config", metavar="PATH", help="by default the file of the running jlabd")
    parser.add_argument("--reload", action="store_true", help="have it applied at once")


def add(options: argparse.Namespace) -> int:
    """Add an instance to the configuration."""
    given = vars(options)
    values: dict[str, Any] = {}
    settings = list(options.settings)
    for option, key, _, _ in _TEXTS:
        if given[key] == "":
            raise CommandError(f"{option} is empty", USAGE)
        if given[key] is not None and "." in key:
            settings.append(f"{key}={_quoted(given[key])}")
        elif given[key] is not None:
            values[key] = int(given[key]) if key == "listen" and given[key].isdigit() else given[key]
    values |= {"on_demand": True} if options.on_demand else {}
    values |= {"autostart": False} if options.no_autostart else {}
    if options.password or options.stdin:
        from jlabd.ctl.requests import new_hash

        values["password_hash"] = new_hash(from_stdin=options.stdin)
    return _order(options, {"verb": "add", "values": values, "settings": settings})


def remove(options: argparse.Namespace) -> int:
    """Remove an instance from the configuration."""
    return _order(options, {"verb": "remove"})


def _quoted(text: str) -> str:
    """Return `text` as a string of TOML, whose escapes are those of JSON."""
    return dumps(text).decode()


def _order(options: argparse.Namespace, order: dict[str, Any]) -> int:
    import subprocess

    from jlabd.ctl.requests import reload
    from jlabd.ourselves import own_program

    running, path = _configuration(options.socket)
    where = options.config or path or DEFAULT_CONFIG
    order |= {"config": os.path.abspath(where), "name": options.name}  # noqa: PTH100  (pathlib takes time to import)
    done = subprocess.run(own_program("jlabd.ctl.program", "jlabd.amend"), input=dumps(order), check=False)
    if done.returncode != DONE:
        return done.returncode
    if options.reload:
        return reload(options.socket, dry_run=False, as_json=False)
    print("Now: jlabctl reload" if running else "Now: systemctl start jlabd")
    return DONE


def _configuration(socket: str) -> tuple[bool, str]:
    """Return whether a daemon runs, and the file that it reads."""
    try:
        return True, str(loads(request(socket, "GET", "/status").read())["config"]["path"])
    except UnreachableError:
        return False, ""
