"""Which files speak of the same lab. Pure.

A program leads: a Supervisor process, a unit, or a script that no program names. Configurations of Jupyter's and
locations of nginx's join the program that they fit best: named by it, in its user's home, with its port or its folder,
or simply the only one there is.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jlabd.config.importers import pyconfig, shell
from jlabd.config.importers.findings import (
    HOME,
    USER,
    Fact,
    Finding,
    Given,
    Kind,
    Machine,
    Part,
    Remark,
    facts,
    is_anchored,
    quoted,
    working_directory,
)

_USUAL_PORT = 8888
_GENERIC = re.compile(
    r"(?i)(?:jupyter|lab|jupyterlab|jupyter[-_]?(?:lab|notebook|server)|notebook|run|start|main|web)?"
)
_HINT = re.compile(r"(?i)jupyter|notebook|\blab\b|lab[-_.]|[-_]lab")
_OF_USER = re.compile(r"(?i:jupyter|lab|jupyter-?lab|notebook)[-_.@](.+)")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.@-]+|\.\.+")
_LONGEST_NAME = 30
"""Two less than a name may have, so that the paths of kernels' sockets are short enough."""


@dataclass(slots=True)
class Lab:
    """The parts that speak of one lab."""

    lead: Part
    script: Part | None = None
    configs: list[Part] = field(default_factory=list)
    routes: list[Part] = field(default_factory=list)

    def findings(self) -> list[Finding]:
        """Return all that is said of it, what counts more behind what counts less."""
        parts = [*self.routes, *self.configs, self.lead, *([self.script] if self.script else [])]
        return [finding for part in parts for finding in part.findings]

    def value(self, key: str) -> Any:
        """Return what the last fact called `key` says; None if none does."""
        found = [f.value for f in facts(self.findings()) if f.key == (key,)]
        return found[-1] if found else None

    @property
    def owner(self) -> str:
        """Whose files they are, if all that belong to somebody agree."""
        parts = [self.lead, *([self.script] if self.script else []), *self.configs]
        owners = {part.owner for part in parts if part.owner}
        return owners.pop() if len(owners) == 1 else ""

    def environment(self) -> dict[str, str]:
        """Return what is set in its environment."""
        return {f.key[1]: str(f.value) for f in facts(self.findings()) if f.key[0] == "env" and f.value is not None}


@dataclass(slots=True)
class Material:
    """What was read, before it is sorted."""

    programs: list[Part] = field(default_factory=list)
    scripts: dict[str, Given] = field(default_factory=dict)
    configs: dict[str, Given] = field(default_factory=dict)
    routes: list[Part] = field(default_factory=list)
    others: set[str] = field(default_factory=set)
    """Paths of programs that are no scripts."""
    remarks: list[Remark] = field(default_factory=list)
    """What belongs to no lab."""


def labs(material: Material, machine: Machine) -> tuple[list[Lab], list[Remark]]:
    """Return the labs, and what was said of none. Raises ImportFailedError."""
    left = list(material.remarks)
    found: list[Lab] = []
    used: set[str] = set()
    for program in material.programs:
        lab = Lab(program)
        script = _script(lab, material.scripts, machine)
        if script is not None:
            used.add(script.path)
            lab.script = shell.read(script, lab.environment())
        if _is_lab(lab, material, machine):
            found.append(lab)
        else:
            left.append(_no_lab(lab))
    found += [Lab(shell.read(given)) for path, given in material.scripts.items() if path not in used]
    for given in material.configs.values():
        left += _join_config(given, found, machine)
    for route in material.routes:
        left += _join_route(route, found)
    return found, left


def _is_lab(lab: Lab, material: Material, machine: Machine) -> bool:
    """Tell whether a program starts a lab; of a script that could not be read its name tells, or that it is alone."""
    if lab.value("@lab") is not None:
        return True
    named = lab.value("@script")
    if named is None or lab.script is not None or path_of(lab, named, machine) in material.others:
        return False
    return len(material.programs) == 1 or bool(_HINT.search(f"{lab.lead.name} {posixpath.basename(named)}"))


def _no_lab(lab: Lab) -> Remark:
    program = lab.value("@script") or lab.value("@unknown")
    why = f"{quoted(str(program))} is another program" if program else "it has no command"
    return Remark(lab.lead.place, quoted(lab.lead.name), f"it is no JupyterLab: {why}")


def path_of(lab_or_part: Lab | Part, value: str, machine: Machine) -> str:
    """Return `value`, a path that a program names, from the root on."""
    findings = lab_or_part.findings if isinstance(lab_or_part, Part) else lab_or_part.findings()
    cwd, user = working_directory(facts(findings)), _last(lab_or_part, "user")
    home = (machine.home(user) or f"/home/{user}") if user else ""
    path = value if is_anchored(value) else posixpath.join(cwd, value)
    path = home + path[1:] if path == "~" or path.startswith("~/") else path
    return posixpath.normpath(path.replace(HOME, home or "~").replace(USER, user or ""))


def _last(source: Lab | Part, key: str) -> str:
    values = [str(v) for v in source.values(key)] if isinstance(source, Part) else [str(source.value(key) or "")]
    return values[-1] if values else ""


def _script(lab: Lab, scripts: Mapping[str, Given], machine: Machine) -> Given | None:
    named = lab.value("@script")
    if named is None:
        return None
    path = path_of(lab, named, machine)
    if path in scripts:
        return scripts[path]
    same = [given for place, given in scripts.items() if posixpath.basename(place) == posixpath.basename(path)]
    return same[0] if len(same) == 1 else None


def _join_config(given: Given, found: list[Lab], machine: Machine) -> Iterator[Remark]:
    """Give a Jupyter configuration to the lab that it fits best, or make one of it."""
    part = pyconfig.read(given)
    best = _best(found, lambda lab: _fit_of_config(part, given, lab, machine))
    if best is None:
        if not found or any(fact.key in {("@port",), ("@root_dir",)} for fact in facts(part.findings)):
            folder = posixpath.dirname(given.path)
            part.name = posixpath.basename(posixpath.dirname(folder)) if folder.endswith("/.jupyter") else ""
            found.append(Lab(part))
        else:
            why = "which of the labs reads it cannot be told; give it together with one lab alone"
            yield Remark(part.place, posixpath.basename(given.path), why)
        return
    best.configs.append(pyconfig.read(given, best.environment()))


def _fit_of_config(part: Part, given: Given, lab: Lab, machine: Machine) -> int:
    if lab.lead.kind is Kind.JUPYTER:
        return 0
    named = lab.value("@config")
    if named is not None and path_of(lab, named, machine) == given.path:
        return 100
    user = lab.value("user")
    home = machine.home(user) or f"/home/{user}" if user else ""
    own_folder = str(lab.environment().get("JUPYTER_CONFIG_DIR", ""))
    in_own_folder = own_folder != "" and posixpath.dirname(given.path) == path_of(lab, own_folder, machine)
    in_home = bool(home) and given.path.startswith(f"{home}/.jupyter/")
    named_elsewhere = named is not None and posixpath.basename(str(named)) != posixpath.basename(given.path)
    ports = {value for value in part.values("@port") if value}
    own = lab.value("@port")
    same_port = own in ports if own else False
    other_port = bool(own and ports and own not in ports)
    same_name = named is not None and not named_elsewhere
    score = 80 * in_own_folder + 50 * in_home + 30 * same_port + 20 * same_name
    return score or (1 if not other_port and not _elsewhere(given, home) else 0)


def _elsewhere(given: Given, home: str) -> bool:
    """Tell whether the file is in another user's home."""
    return bool(home) and given.path.startswith("/home/") and not given.path.startswith(f"{home}/")


def _best(found: Sequence[Lab], fit: Callable[[Lab], int]) -> Lab | None:
    """Return the one lab with the highest fit above 0; None if there is none, or two are equal."""
    scores = sorted(((fit(lab), n) for n, lab in enumerate(found)), reverse=True)
    if not scores or scores[0][0] == 0 or (len(scores) > 1 and scores[1][0] == scores[0][0]):
        return None
    return found[scores[0][1]]


def _join_route(route: Part, found: list[Lab]) -> Iterator[Remark]:
    target = str(route.values("@target")[-1])
    best = _best(found, lambda lab: _fit_of_route(route, target, lab))
    if best is not None and best.routes:
        yield Remark(
            route.place, quoted(route.name), f"{best.routes[0].place} leads to the same lab, which has one address"
        )
    elif best is not None:
        best.routes.append(route)
    elif not any(lab.lead.kind is not Kind.NGINX for lab in found):
        route.name = route.name.partition(".")[0]
        found.append(Lab(route))
    else:
        yield Remark(route.place, quoted(f"a server that leads to {target}"), "no lab that was given answers there")


def _fit_of_route(route: Part, target: str, lab: Lab) -> int:
    if lab.lead.kind is Kind.NGINX:
        return 10 if target in lab.lead.values("@target") else 0
    port = lab.value("@port")
    said = any(fact.key == ("@port",) for fact in facts(lab.findings()))
    if str(port or ("" if said else _USUAL_PORT)) == target:
        return 10
    url, location = lab.value("@base_url"), route.values("@location")
    same_path = bool(url and location and str(url).strip("/") == str(location[-1]).strip("/") != "")
    return 5 if same_path and port is None else int(port is None and said)


def name_of(lab: Lab, taken: set[str]) -> str:
    """Return a good name for the instance, and take it: the program's own, or the user's where that says nothing."""
    user = str(lab.value("user") or lab.owner or "")
    name = lab.lead.name
    if _GENERIC.fullmatch(name):
        name = user if user not in {"", "root", USER} else name or "lab"
    elif (found := _OF_USER.fullmatch(name)) and found[1] == user:
        name = user
    name = _NOT_IN_NAMES.sub("-", name).strip("-.@_") or "lab"
    return _free(name[:_LONGEST_NAME].rstrip("."), taken)


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name[: _LONGEST_NAME - len(str(number)) - 1]}-{number}"
    taken.add(free)
    return free


def unread(lab: Lab, machine: Machine) -> list[Finding]:
    """Return findings about files that the lab names and that were not given."""
    result: list[Finding] = []
    for fact in facts(lab.findings()):
        if fact.key == ("@config",) and not _was_read(path_of(lab, str(fact.value), machine), lab):
            result.append(Fact(("@unread",), fact.value, fact.place))
        if fact.key == ("@script",) and lab.script is None:
            why = "it could not be read; what it sets up is not here: give it too"
            result.append(Remark(fact.place, quoted(str(fact.value)), why))
    return result


def _was_read(path: str, lab: Lab) -> bool:
    """Tell whether a configuration is among the lab's, maybe as a copy."""
    return any(posixpath.basename(config.place.file) == posixpath.basename(path) for config in lab.configs)
