"""What is put where, rendered for this installation: units, the group's file, nginx's include, the configuration."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jlabd import __version__

UNITS = ("jlabd.service", "jlabd-labs.service")
UNIT_DIR = "/etc/systemd/system"
PACKAGED_DIRS = ("/usr/lib/systemd/system", "/lib/systemd/system")
CONFIG = "/etc/jlabd.toml"
PACKAGED_SCHEMA = "file:///usr/share/jlabd/jlabd.schema.json"
CONFIG_FOLDER = "/etc/jlabd.d"
NGINX_INCLUDE = "/etc/nginx/conf.d/jlabd.conf"
NGINX_FOLDER = "/etc/nginx/jlabd.d"
COMMAND = "/usr/local/bin/jlabctl"

_MARK = re.compile(r"\A# Written by `jlabctl install-unit` of jlabd \S+, with the digest ([0-9a-f]{16})\.\n")


class NotInstalledError(Exception):
    """This jlabd cannot be made a service; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the programs of this jlabd are, and what came with them."""

    programs: Path
    """Folder with jlabd and jlabctl."""
    shared: Path
    """Folder with the units and what else is put into /etc."""

    def text(self, name: str) -> str:
        """Return the text of a file that came with this jlabd."""
        return (self.shared / name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Planned:
    """One file to be written."""

    path: str
    text: str
    mode: int = 0o644
    kept: bool = False
    """It is the administrator's from then on: written only if there is none, and never removed."""

    @property
    def marked(self) -> str:
        """Return the text as it is written: with a first line by which it is recognised, unless it is `kept`."""
        if self.kept:
            return self.text
        mark = f"# Written by `jlabctl install-unit` of jlabd {__version__}, with the digest {digest(self.text)}."
        return f"{mark}\n{self.text}"


def digest(text: str) -> str:
    """Return what an edit would change."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_as_written(text: str) -> bool:
    """Return whether a file is one of ours that nobody has edited."""
    found = _MARK.match(text)
    return found is not None and found[1] == digest(text[found.end() :])


def find() -> Installation:
    """Return this installation. Raises NotInstalledError."""
    programs = Path(sys.executable).parent
    for program in ("jlabd", "jlabctl"):
        if not (programs / program).is_file():
            raise NotInstalledError(
                f"There is no {programs / program}: run the jlabctl of a virtual environment into which jlabd was "
                "installed (python3 -m venv /opt/jlabd && /opt/jlabd/bin/pip install jlabd)."
            )
    shared = Path(sys.prefix, "share/jlabd")
    if not (shared / UNITS[0]).is_file():
        raise NotInstalledError(f"{shared} lacks {UNITS[0]}: install jlabd anew (pip install --force-reinstall jlabd).")
    return Installation(programs, shared)


def plan(installation: Installation, root: Path = Path("/")) -> Iterator[Planned]:
    """Yield what is to be written, for the system below `root`."""
    for unit in UNITS:
        yield Planned(f"{UNIT_DIR}/{unit}", with_programs(installation.text(unit), installation.programs))
    if (root / NGINX_INCLUDE[1:]).parent.is_dir():
        yield Planned(NGINX_INCLUDE, installation.text("nginx.conf"))
    yield Planned(CONFIG, _configuration(installation, root), mode=0o600, kept=True)


def with_programs(unit: str, programs: Path) -> str:
    """Return a unit that starts the programs in a folder instead of those of a package."""
    return re.sub(r"/usr/bin/(jlabd|jlabctl)\b", lambda found: _word(str(programs / found[1])), unit)


def _word(path: str) -> str:
    """Return a path as a word of a unit file."""
    escaped = path.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    return f'"{escaped}"' if re.search(r"[\s'\"]", path) else escaped


def _configuration(installation: Installation, root: Path) -> str:
    """Name the schema where it is, and the group of nginx's workers, where that is not that of Enterprise Linux."""
    schema = (installation.shared / "jlabd.schema.json").as_uri()
    text = installation.text("jlabd.toml").replace(PACKAGED_SCHEMA, schema, 1)
    try:
        groups = (root / "etc/group").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        groups = ""
    names = {line.partition(":")[0] for line in groups.splitlines()}
    if "nginx" not in names and "www-data" in names:
        return text.replace('#group = "nginx"', 'group = "www-data"', 1)
    return text
