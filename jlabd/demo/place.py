"""Where the demo keeps everything: below `.demo/`, and for short paths, if need be, in a private folder below /tmp."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from jlabd.nginx import allowed
from jlabd.nginx.allowed import RenderError

RUNTIME_DIR_MAX = 37
"""Bytes: what 107 of a unix socket's address leave, after /labs/alice.12345/rt/kernel-UUID-ipc-5 of a kernel."""

_PREFIX = "jlabd-demo-"


class DemoError(Exception):
    """The demo cannot go on; the text is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folders and files of one demo. `base` holds what needs short and plain paths, `root` all the rest."""

    root: Path
    base: Path

    @property
    def config(self) -> Path:
        """The configuration of jlabd."""
        return self.root / "jlabd.toml"

    @property
    def runtime_dir(self) -> Path:
        """The runtime folder of jlabd."""
        return self.base / "run"

    @property
    def control_socket(self) -> Path:
        """Where `jlabctl` finds the daemon."""
        return self.runtime_dir / "control.sock"

    @property
    def nginx(self) -> Path:
        """Everything of nginx."""
        return self.base / "nginx"

    @property
    def nginx_config(self) -> Path:
        """The main configuration of nginx."""
        return self.nginx / "nginx.conf"

    @property
    def state(self) -> Path:
        """What jlabd remembers."""
        return self.root / "state"

    @property
    def log(self) -> Path:
        """The folder of jlabd's own and the labs' logs."""
        return self.root / "log"

    @property
    def jlabd_log(self) -> Path:
        """What jlabd itself says."""
        return self.log / "jlabd.log"

    @property
    def nginx_log(self) -> Path:
        """What nginx says."""
        return self.log / "nginx.log"

    def home(self, name: str) -> Path:
        """Return the home and root folder of one lab."""
        return self.root / "home" / name


def hold(root: Path) -> int:
    """Make `root` and lock it for this process; return the descriptor that holds the lock, until the process ends.

    Raises DemoError when another demo runs there, OSError.
    """
    root.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise DemoError(
            f"A demo already runs in this folder (pid {pid}). End it first, with Ctrl-C where it runs or: kill {pid}"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def earlier(root: Path) -> Place:
    """Return the place that an earlier demo in `root` used, also if nothing of it is left."""
    return Place(root, (root / "run").resolve().parent)


def settle(root: Path) -> Place:
    """Make the folders of a new demo in `root`, which was cleared; some may be links. Raises OSError."""
    plain = len(os.fsencode(root / "run")) <= RUNTIME_DIR_MAX and _fit_for_nginx(root)
    place = Place(root, root if plain else Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp")))
    for folder in (place.runtime_dir, place.nginx):
        folder.mkdir(mode=0o755)
        if not plain:
            (root / folder.name).symlink_to(folder)
    place.log.mkdir(mode=0o700, exist_ok=True)
    # A new demo runs both labs, whatever was asked for in the last one; only the key stays, so that links stay good.
    for old in (place.jlabd_log, place.nginx_log, place.state / "state.json"):
        old.unlink(missing_ok=True)
    return place


def _fit_for_nginx(path: Path) -> bool:
    try:
        allowed.path("", str(path))
    except RenderError:
        return False
    return True


def clear(place: Place) -> None:
    """Remove `run` and `nginx`, which only a running demo needs, wherever they are. Raises OSError."""
    for name in ("run", "nginx"):
        path = place.root / name
        with contextlib.suppress(FileNotFoundError):
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path)
    if place.base != place.root and _is_our_short_folder(place.base):
        shutil.rmtree(place.base)


def _is_our_short_folder(path: Path) -> bool:
    """Say whether `path` is a folder that an earlier demo of this user made: nobody else's, and no link."""
    try:
        found = path.lstat()
    except OSError:
        return False
    name_fits = path.name.startswith(_PREFIX) and path.parent == Path("/tmp")  # noqa: S108  (compared)
    return name_fits and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def program(name: str) -> str:
    """Return the path of a program of the environment that this Python belongs to. Raises DemoError."""
    path = Path(sys.prefix, "bin", name)
    if not path.exists():
        raise DemoError(f"There is no {path}. `make demo` sets everything up.")
    return str(path)
