"""Opening the files: those that were named, and those that they name. The only module here that touches the world."""

from __future__ import annotations

import glob
import os
import posixpath
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jlabd.config.daemon import own_host_names
from jlabd.config.importers import kinds, nginx, pyconfig, shell, supervisor, systemd
from jlabd.config.importers.findings import Given, ImportFailedError, Kind, Machine, Part, Place, Remark, facts
from jlabd.config.importers.together import Lab, Material, path_of

_LARGEST = 4 * 1024 * 1024
_MOST_FILES = 500
_JUPYTER_READS = {
    f"{name}.{ending}"
    for name in ("jupyter_config", "jupyter_server_config", "jupyter_lab_config", "jupyter_notebook_config")
    for ending in ("py", "json")
}
_SYSTEM_UNITS = "/etc/systemd/system"


def machine() -> Machine:
    """Return this machine."""
    return Machine(_home, frozenset(own_host_names()))


def _home(account: str) -> str:
    try:
        return pwd.getpwnam(account).pw_dir
    except (KeyError, ValueError):
        return ""


def read(path: str) -> Given:
    """Return the file at `path`. Raises ImportFailedError."""
    place = Place(posixpath.abspath(path))
    try:
        # Not blocking, and no terminal: a FIFO or a device must not hold the command.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor)
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise place.failed("is not a regular file")
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise place.failed(f"cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise ImportFailedError(f"{path!r} is no path") from None
    return Given(place.file, _text(place, data), _owner(status.st_uid))


def _text(place: Place, data: bytes) -> str:
    if len(data) > _LARGEST:
        raise place.failed("is larger than any file of this kind")
    for number, line in enumerate(data.split(b"\n"), 1):
        here = Place(place.file, number)
        if any(code < 9 for code in line):
            raise here.failed("holds a NUL or another control character; it is no text file")
        try:
            line.decode()
        except UnicodeDecodeError:
            raise here.failed("is not UTF-8; save the file as UTF-8") from None
    return data.decode().removeprefix("\ufeff").replace("\r\n", "\n")


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name if uid else ""
    except KeyError:
        return ""


@dataclass(slots=True)
class Gathering:
    """Reads files until none names another one that was not read."""

    machine: Machine
    name: str = ""
    """The instance of a template unit that is named without one."""
    material: Material = field(default_factory=Material)
    files: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    _dropins: dict[str, list[Given]] = field(default_factory=dict)
    _units: set[str] = field(default_factory=set)
    """The units, and the templates of those that are instances."""

    def named(self, paths: list[str]) -> None:
        """Read what the command line names. Raises ImportFailedError."""
        units = []
        for path in paths:
            if _is_dropin(path):
                self._dropin(path)
            elif path.endswith(".service"):
                units.append(path)
            else:
                self._file(path)
        for path in units:
            self._unit(path)
        for unit, dropins in self._dropins.items():
            if unit not in self._units:
                raise dropins[0].at(0).failed(f"is a drop-in of {unit}, which was not given")
        self._follow()

    def _new(self, path: str) -> Given | None:
        """Return the file at `path` unless it was read already. Raises ImportFailedError."""
        real = os.path.realpath(path)
        if real in self._seen:
            return None
        if len(self._seen) >= _MOST_FILES:
            raise ImportFailedError(f"{path}: more than {_MOST_FILES} files belong to this")
        self._seen.add(real)
        given = read(path)
        self.files.append(given.path)
        return given

    def _file(self, path: str) -> None:
        given = self._new(path)
        if given is not None:
            self._take(given, kinds.kind_of(given))

    def _take(self, given: Given, kind: Kind) -> None:
        match kind:
            case Kind.SUPERVISOR:
                self._supervisor(given)
            case Kind.SYSTEMD:
                self._service(posixpath.basename(given.path), given)
            case Kind.NGINX:
                reading = nginx.read(given)
                self.material.routes += reading.parts
                self.material.remarks += reading.remarks
            case Kind.JUPYTER:
                self.material.configs[given.path] = given
            case Kind.SCRIPT:
                self.material.scripts[given.path] = given

    def _supervisor(self, given: Given) -> None:
        reading = supervisor.read(given)
        self.material.programs += reading.parts
        self.material.remarks += reading.remarks
        for place, pattern in reading.includes:
            found = sorted(glob.glob(pattern))  # noqa: PTH207  (an absolute pattern; Path.glob takes none)
            if not found:
                self.material.remarks.append(Remark(place, f"files = {pattern}", "there is no such file"))
            for path in found:
                included = self._new(path)
                if included is not None:
                    self._supervisor(included)

    def _unit(self, path: str) -> None:
        """Read a unit; the name of a template's instance stands for the template."""
        name = posixpath.basename(path)
        prefix, at, instance = name.removesuffix(".service").partition("@")
        source = path
        if at and instance and not os.path.lexists(path):
            source = posixpath.join(posixpath.dirname(path), f"{prefix}@.service")
        given = read(source)
        self.files.append(given.path)
        self._seen.add(os.path.realpath(source))
        if kinds.kind_of(given) is not Kind.SYSTEMD:
            raise given.at(0).failed("has the name of a systemd unit, but no [Service]")
        if not systemd.is_template(name):
            self._service(name, given)
            return
        instances = [self.name] if self.name else list(_enabled(given.path, prefix))
        if not instances:
            raise given.at(0).failed(
                f"is a template: name an instance of it, like {path.removesuffix('.service')}NAME.service"
            )
        for instance in instances:
            self._service(f"{prefix}@{instance}.service", given)

    def _service(self, name: str, given: Given) -> None:
        self._units.update(_names_of_dropins(name))
        for folder in _folders_of_dropins(posixpath.dirname(given.path)):
            for unit in _names_of_dropins(name):
                for path in sorted(Path(folder, f"{unit}.d").glob("*.conf")):
                    self._dropin(str(path))
        dropins = [dropin for unit in _names_of_dropins(name) for dropin in self._dropins.get(unit, [])]
        unit_of = systemd.Unit(name, given, systemd.ordered(dropins))
        self.material.programs.append(systemd.read(unit_of, _home("root") or "/root"))

    def _dropin(self, path: str) -> None:
        given = self._new(path)
        if given is not None:
            unit = posixpath.basename(posixpath.dirname(given.path)).removesuffix(".d")
            self._dropins.setdefault(unit, []).append(given)

    def _follow(self) -> None:
        """Read the run scripts and Jupyter configurations that programs name, as far as they are there."""
        for program in self.material.programs:
            self._named_by(program, program, "@script", Kind.SCRIPT)
        for program in self.material.programs:
            self._named_by(program, program, "@config", Kind.JUPYTER)
        for given in list(self.material.scripts.values()):
            part = shell.read(given)
            leads = [p for p in self.material.programs if given.path in self._paths(p, p, "@script")]
            self._named_by(part, Lab(leads[0], part) if leads else part, "@config", Kind.JUPYTER)
        for user in sorted(
            {str(fact.value) for p in self.material.programs for fact in facts(p.findings) if fact.key == ("user",)}
        ):
            self._of_user(self.machine.home(user))

    def _of_user(self, home: str) -> None:
        """Read what Jupyter reads by itself in the home of a lab's user; nobody asked for it, so it may be unusable."""
        for path in sorted(Path(home, ".jupyter").glob("jupyter_*config.*")) if home else ():
            if path.name not in _JUPYTER_READS or not os.access(path, os.R_OK):
                continue
            try:
                given = self._new(str(path))
                if given is not None:
                    pyconfig.read(given)
                    self.material.configs[given.path] = given
            except ImportFailedError as error:
                self.material.remarks.append(Remark(Place(str(path)), "it could not be used", str(error)))

    def _paths(self, part: Part, whole: Lab | Part, key: str) -> list[str]:
        return [path_of(whole, str(fact.value), self.machine) for fact in facts(part.findings) if fact.key == (key,)]

    def _named_by(self, part: Part, whole: Lab | Part, key: str, kind: Kind) -> None:
        for path in self._paths(part, whole, key):
            if not Path(path).is_file() or not os.access(path, os.R_OK):
                continue
            if kind is Kind.SCRIPT and not _is_script(path):
                self.material.others.add(path)
            elif (given := self._new(path)) is not None:
                self._take(given, kind)


def _is_script(path: str) -> bool:
    """Tell whether a program is a shell's script, and not made by a compiler or for another interpreter."""
    try:
        with Path(path).open("rb") as file:
            first = file.readline(200).decode()
    except (OSError, UnicodeDecodeError):
        return False
    return path.endswith(".sh") or kinds.is_shebang_of_a_shell(first)


def _is_dropin(path: str) -> bool:
    return path.endswith(".conf") and posixpath.basename(posixpath.dirname(posixpath.abspath(path))).endswith(
        ".service.d"
    )


def _folders_of_dropins(folder: str) -> list[str]:
    """Return where drop-ins of a unit in `folder` lie: the administrator's count for the packages' units too."""
    packages = folder in {"/usr/lib/systemd/system", "/lib/systemd/system"}
    return [folder, *([_SYSTEM_UNITS] if packages else [])]


def _names_of_dropins(name: str) -> list[str]:
    """Return the units whose drop-ins count for `name`: an instance has those of its template, too."""
    prefix, at, _ = name.partition("@")
    return list(dict.fromkeys([name, f"{prefix}@.service"])) if at else [name]


def _enabled(path: str, prefix: str) -> Iterator[str]:
    """Yield the instances of a template that are started at boot."""
    for link in sorted(Path(posixpath.dirname(path)).glob(f"*.wants/{glob.escape(prefix)}@*.service")):
        yield link.name.removeprefix(f"{prefix}@").removesuffix(".service")
