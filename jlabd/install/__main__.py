"""The entry point: `jlabctl install-unit` becomes this program."""

from __future__ import annotations

import argparse
import grp
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jlabd.install.place import CONFIG, UNIT_DIR, UNITS, NotInstalledError, Planned, find, plan
from jlabd.install.work import edited, install, refuse_beside_package, refuse_what_others_can_change, uninstall

GROUP = "jlabd"
ROOT = Path("/")

NEXT = f"""
Next: write into {CONFIG} who is to get a lab, then
    jlabctl check
    systemctl enable --now jlabd"""


def main() -> int:
    """Do what the command line says; returns the exit code."""
    options = _options()
    try:
        if options.uninstall:
            _need_root()
            return _uninstall()
        return _install(options)
    except (NotInstalledError, OSError) as error:
        print(f"jlabctl install-unit: {error}", file=sys.stderr)
        return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="jlabctl install-unit",
        description="Make this jlabd, which came by pip, a service of systemd.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--print", action="store_true", dest="show", help="only print what would be written")
    what.add_argument("--dry-run", action="store_true", dest="show", help="the same")
    what.add_argument("--uninstall", action="store_true", help="stop the service and take away what was written")
    parser.add_argument(
        "--force", action="store_true", help="also replace files that were edited; they become PATH.old"
    )
    return parser.parse_args()


def _need_root() -> None:
    if os.geteuid() != 0:
        raise NotInstalledError("only root can do that: sudo jlabctl install-unit (or --print, to see what it writes)")


def _install(options: argparse.Namespace) -> int:
    refuse_beside_package(ROOT)
    installation = find()
    planned = list(plan(installation, ROOT))
    if options.show:
        for file in planned:
            _print(file)
        return 0
    _need_root()
    package = Path(__file__).parent.parent
    refuse_what_others_can_change([installation.programs / "jlabd", Path(sys.executable), package / "main.py"])
    if (conflicts := edited(planned, ROOT)) and not options.force:
        raise NotInstalledError(
            f"{', '.join(conflicts)}: not as jlabctl wrote it. Nothing was changed. Use `systemctl edit` for changes "
            "of your own; --force replaces the file, and keeps what it was as .old."
        )
    _make_group()
    for sentence in install(planned, installation, ROOT):
        print(sentence)
    _run(["systemctl", "daemon-reload"])
    print(NEXT)
    return 0


def _print(file: Planned) -> None:
    print(f"==> {file.path} (mode {file.mode:04o})" + (", if there is none" if file.kept else ""))
    print(file.marked)


def _make_group() -> None:
    """Make the group whose members control every instance (daemon.admin_group)."""
    try:
        grp.getgrnam(GROUP)
    except KeyError:
        _run(["groupadd", "--system", GROUP])


def _uninstall() -> int:
    refuse_beside_package(ROOT)
    if os.path.lexists(f"{UNIT_DIR}/{UNITS[0]}"):
        _run(["systemctl", "disable", "--now", "--quiet", UNITS[0]])
    for sentence in uninstall(ROOT):
        print(sentence)
    _run(["systemctl", "daemon-reload"])
    if subprocess.run(["systemctl", "--quiet", "is-active", "nginx.service"], check=False).returncode == 0:
        _run(["systemctl", "reload", "nginx.service"])
    print(
        f"Left, for you to keep or remove: {CONFIG}, /etc/jlabd.d, /var/lib/jlabd, /var/log/jlabd, the group {GROUP}."
    )
    return 0


def _run(command: Sequence[str]) -> None:
    """Run a command. Raises NotInstalledError if it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise NotInstalledError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main())
