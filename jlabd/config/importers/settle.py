"""From all that is known of one lab to the keys of its table. Pure.

Which of two facts about one thing counts was decided by their order: the last one does.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from jlabd.config.importers.commandline import is_systems
from jlabd.config.importers.findings import (
    HOME,
    USER,
    Fact,
    Finding,
    Key,
    Machine,
    Place,
    Remark,
    is_anchored,
    quoted,
    working_directory,
)

NOBODY = "CHANGE-ME"
"""The user of a lab of which nothing says whose it is: no such account, so that nothing runs until somebody chose."""

_HOME_OF = re.compile(r"/home/([^/\x01]+)(?:/|\Z)")
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_USUAL_PORT = 8888
_EVERYBODY = "everybody could connect; jlabd gives the lab a private unix socket, which its user and nginx can open"
_SECRETS = frozenset({"env", "password_hash"})
_INNER_NAMES = {"@cwd": "working directory", "@venv": "environment", "@config": "--config", "@arg": "argument"}
_FROM_ACCOUNT = {
    **dict.fromkeys(("HOME", "USER", "LOGNAME", "SHELL"), "jlabd sets it from the account"),
    **dict.fromkeys(("VIRTUAL_ENV", "CONDA_PREFIX"), "the environment is the key venv"),
}
_SYSTEMS_PYTHON = (
    "JupyterLab belongs to the system's Python; make an environment for it (python3 -m venv /opt/jupyterlab; "
    "/opt/jupyterlab/bin/pip install jupyterlab …), or write another one as venv"
)
_ROOT = (
    "whoever gets into a lab of root's has the whole machine: write the account whose lab it is (and give it the "
    'files), or user = "root" and allow_root = true'
)


@dataclass(slots=True)
class Instance:
    """One lab in jlabd's words."""

    name: str
    keys: dict[Key, Fact] = field(default_factory=dict)
    nginx: dict[Key, Fact] = field(default_factory=dict)
    """What it asks of `[nginx]`."""
    remarks: list[Remark] = field(default_factory=list)


def settle(name: str, place: Place, findings: Iterable[Finding], machine: Machine, owner: str = "") -> Instance:
    """Return the instance that `findings` make; `owner` is whose files they came from, if that tells anything."""
    settling = _Settling(Instance(name), place, machine)
    settling.take(findings)
    settling.user(owner)
    settling.fill_in()
    settling.folders()
    settling.environment()
    settling.address()
    settling.rest()
    return settling.instance


class _Settling:
    def __init__(self, instance: Instance, place: Place, machine: Machine) -> None:
        self.instance = instance
        self._place = place
        self._machine = machine
        self._facts: dict[Key, Fact] = {}

    def take(self, findings: Iterable[Finding]) -> None:
        """Sort the findings, and say of facts which do not count."""
        for finding in findings:
            if isinstance(finding, Remark):
                self.instance.remarks.append(finding)
                continue
            before = self._facts.pop(finding.key, None)
            if finding.key == ("@cwd",) and before is not None and not is_anchored(str(finding.value)):
                value = working_directory([before, finding])
                self._facts[finding.key] = Fact(finding.key, value, finding.place)
                continue
            if before is not None and before.value != finding.value and before.place != finding.place:
                self._remark(before.place, _written(before), f"{finding.place} says otherwise, and counts")
            self._facts[finding.key] = finding

    def _remark(self, place: Place, what: str, why: str) -> None:
        self.instance.remarks.append(Remark(place, what, why))

    def _key(self, key: Key, value: Any, fact: Fact | None, note: str = "") -> None:
        place = fact.place if fact else self._place
        self.instance.keys[key] = Fact(key, value, place, note or (fact.note if fact else ""))

    def _pop(self, *key: str) -> Fact | None:
        return self._facts.pop(key, None)

    def user(self, owner: str) -> None:
        """Find out whose lab it is."""
        fact = self._pop("user")
        if fact is not None and fact.value not in {"root", "0", USER}:
            self._key(("user",), str(fact.value), fact)
        elif guess := self._guess():
            self._key(("user",), *guess)
        elif owner:
            self._key(("user",), owner, fact, "owns the files that were given")
        else:
            self._key(("user",), NOBODY, fact, "the account whose lab it is")
        if fact is not None and fact.value in {"root", "0"}:
            self._remark(fact.place, f"user {fact.value}", _ROOT)
        elif self.instance.keys["user",].value == NOBODY:
            self._remark(
                self._place, "no user", "the lab ran as whoever started it, for a service that is root; " + _ROOT
            )

    def _guess(self) -> tuple[str, Fact, str] | None:
        for key in ("@cwd", "@root_dir", "@venv", "@config", "@script"):
            fact = self._facts.get((key,))
            if fact is not None and (found := _HOME_OF.match(str(fact.value))):
                return found[1], fact, f"guessed from {quoted(str(fact.value))}"
        return None

    def fill_in(self) -> None:
        """Put the account's name and home where they are meant."""
        user = self.instance.keys["user",].value
        home = self._machine.home(user) or f"/home/{user}"
        self._facts = {
            key: Fact(fact.key, _filled(fact.value, user, home), fact.place, fact.note)
            for key, fact in self._facts.items()
        }

    def folders(self) -> None:
        """Settle root_dir and venv."""
        user = self.instance.keys["user",].value
        home = self._machine.home(user) or f"/home/{user}"
        cwd, root = self._pop("@cwd"), self._pop("@root_dir")
        base = _joined(home, cwd.value, home) if cwd else home
        if root is not None or cwd is not None:
            path = _joined(base, root.value if root else "", home)
            self._key(("root_dir",), path, root or cwd)
        venv = self._pop("@venv") or self._venv_of_path()
        if venv is None:
            self._remark(self._place, "no environment", "nothing says where JupyterLab is installed; write it as venv")
        elif is_systems(path := _joined(base, str(venv.value), home).rstrip("/")):
            self._remark(venv.place, quoted(f"{path}/bin"), _SYSTEMS_PYTHON)
        else:
            self._key(("venv",), path, venv)
        self._config(base, home)

    def _venv_of_path(self) -> Fact | None:
        """Return the first folder of PATH that belongs to an environment."""
        fact = self._facts.get(("env", "PATH"))
        for folder in str(fact.value).split(":") if fact else ():
            if folder.endswith("/bin") and not is_systems(folder.removesuffix("/bin")) and folder != "/bin":
                return Fact(("@venv",), folder.removesuffix("/bin"), fact.place) if fact else None
        return None

    def _config(self, base: str, home: str) -> None:
        """Settle what becomes of a configuration that the command line names."""
        fact, unread = self._pop("@config"), self._pop("@unread")
        if unread is not None:
            path = _joined(base, str(unread.value), home)
            self._key(("config_files",), [path], unread, "jlabctl import could not read it")
        elif fact is not None:
            path = quoted(_joined(base, str(fact.value), home))
            why = f'what is simple in it is here; for JupyterLab to read all the rest too: config_files = ["{path}"]'
            self._remark(fact.place, f"--config {path}", why)

    def environment(self) -> None:
        """Settle env."""
        for key in [key for key in self._facts if key[0] == "env"]:
            fact = self._facts.pop(key)
            if why := _FROM_ACCOUNT.get(key[1]):
                self._remark(fact.place, key[1], why)
            elif fact.value is not None:
                self._key(key, str(fact.value), fact)

    def address(self) -> None:
        """Settle under which address the lab answers."""
        target, ip, port = self._pop("@target"), self._pop("@ip"), self._pop("@port")
        if ip is not None and ip.value not in _LOCAL:
            self._remark(ip.place, f"ip = {quoted(repr(ip.value))}", _EVERYBODY)
        number = port.value if port else None
        if target is not None:
            self._through_nginx()
            if port is not None and number is not None:
                self._remark(port.place, f"port {number}", "nginx reaches the lab by a private unix socket instead")
        elif ip is not None and ip.value not in _LOCAL:
            if port is not None and number is not None:
                why = f'not needed behind nginx; listen = "0.0.0.0:{number}" would open it to everybody again'
                self._remark(port.place, f"port {number}", why)
        elif port is not None and number is not None:
            note = "for who comes by an SSH tunnel or a proxy; without it the lab is behind nginx only"
            self._key(("listen",), f"127.0.0.1:{number}", port, note)
        self._base_url()

    def _base_url(self) -> None:
        url, location = self._pop("@base_url"), self._pop("@location")
        wanted = _slashed(url.value) if url else "/"
        if location is not None and not wanted.startswith(location.value):
            wanted, url = location.value, location
        where = ("server_name",) in self.instance.keys
        if wanted != "/":
            self._key(("base_url",), wanted, url)
        elif not where and ("nginx", "server_name") not in self.instance.nginx:
            why = f"it answered at /; now it does below /{self.instance.name}/ of the host that all labs share"
            self._remark(self._place, "no base_url", why + ' (server_name = "…" gives it a host of its own)')
        elif not where:
            self._key(("base_url",), "/", location)

    def _through_nginx(self) -> None:
        """Settle what nginx said of the lab."""
        hosts, location = self._pop("@hosts"), self._facts.get(("@location",))
        own = location is not None and location.value == "/"
        if hosts is not None:
            names = list(hosts.value)
            if own and names[0] not in self._machine.host_names:
                self._key(("server_name",), names[0], hosts)
                if names[1:]:
                    self._remark(hosts.place, quoted("server_name " + " ".join(names[1:])), "an instance has one name")
            else:
                self._shared("server_name", names, hosts)
        self._tls(own and ("server_name",) in self.instance.keys)
        listens = self._pop("@listens")
        own_certificate = ("nginx", "tls_certificate") in self.instance.keys
        if listens is not None and (addresses := _listens(listens.value, own_certificate=own_certificate)):
            self._shared("listen", addresses, listens)
        for name in ("hsts", "acme_root"):
            fact = self._pop(f"@{name}")
            if fact is not None:
                self._shared(name, fact.value, fact)

    def _shared(self, name: str, value: Any, fact: Fact) -> None:
        """Ask something of `[nginx]`."""
        self.instance.nginx["nginx", name] = Fact((name,), value, fact.place)

    def _tls(self, own: bool) -> None:
        for name in ("certificate", "certificate_key"):
            fact = self._pop(f"@ssl_{name}")
            if fact is not None and own:
                self._key(("nginx", f"tls_{name}"), fact.value, fact)
            elif fact is not None:
                self._shared(f"tls_{name}", fact.value, fact)

    def rest(self) -> None:
        """Take over what needs no settling."""
        arguments = [fact for key, fact in self._facts.items() if key[0] == "@arg"]
        if arguments:
            self._key(("args",), [fact.value for fact in arguments], arguments[0])
        for key, fact in self._facts.items():
            if not key[0].startswith("@"):
                self._key(key, fact.value, fact)


def _written(fact: Fact) -> str:
    name = _INNER_NAMES.get(fact.key[0], ".".join(fact.key).removeprefix("@"))
    return name if fact.key[0] in _SECRETS else quoted(f"{name} = {fact.value}")


def _filled(value: Any, user: str, home: str) -> Any:
    match value:
        case str():
            return value.replace(HOME, home).replace(USER, user)
        case list():
            return [_filled(item, user, home) for item in value]
        case _:
            return value


def _joined(base: str, path: str, home: str) -> str:
    """Return an absolute path, without `.` and `..` in it."""
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    joined = posixpath.normpath(posixpath.join(base, path))
    return "/" + joined.lstrip("/") if joined.startswith("//") else joined


def _slashed(url: Any) -> str:
    return "/" + str(url).strip("/") + "/" if str(url).strip("/") else "/"


def _listens(listens: Iterable[list[str]], *, own_certificate: bool) -> list[str]:
    """Return what is to be written as `nginx.listen`: nothing if it is what jlabd does by itself.

    It speaks TLS by itself only where `[nginx]` has a certificate, not where an instance has.
    """
    found = sorted(dict.fromkeys(_addresses(listens)), key=lambda address: address.endswith(" ssl"))
    usual = {"80", "443 ssl", "[::]:80", "[::]:443 ssl"}
    return [] if set(found) <= usual and not own_certificate else found


def _addresses(listens: Iterable[list[str]]) -> Iterator[str]:
    for address, *words in listens:
        place = address.removeprefix("*:").removeprefix("0.0.0.0:")
        ssl = "ssl" in words or place.rpartition(":")[2] == "443"
        yield f"{place} ssl" if ssl else place
