"""A systemd service with its drop-ins. Pure.

Assignments are taken in systemd's order: the unit, then its drop-ins by name; a list is emptied by an empty value.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jlabd.config.importers import shell
from jlabd.config.importers.findings import HOME, USER, Fact, Finding, Given, Kind, Part, Place, Remark
from jlabd.config.importers.ini import Line, systemd_lines
from jlabd.config.importers.supervisor import stop_signal
from jlabd.config.importers.systemd_words import shown, specified, split, unknown_specifier, with_variables

_LISTS = frozenset({"ExecStart", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost", "ExecReload"})
_MORE_LISTS = frozenset({"Environment", "EnvironmentFile", "UnsetEnvironment"})
_BYTES = re.compile(r"[0-9]+(?:\.[0-9]+)?[KMGT]?")
_TIME = re.compile(r"(?:[0-9]+(?:\.[0-9]+)? *(?:ms|s|sec|seconds?|m|min|minutes?|h|hr|hours?)? *)+")
_YES = frozenset({"1", "yes", "true", "on", "y", "t"})
_UNIT_NAME = re.compile(r"(?P<prefix>[^@]*)(?:@(?P<instance>.*))?\.service")
_POLICIES = {"no": "never", "always": "always", "on-failure": "on-failure", "on-abnormal": "on-failure"} | {
    "on-abort": "on-failure",
    "on-watchdog": "on-failure",
    "on-success": "always",
}

_NO_SCRIPTS = "jlabd runs no other programs around a start or a stop"
_SANDBOX = "jlabd has no_new_privileges and private_tmp; without this one the lab can do a little more than before"
_TREE = "jlabd always ends the whole tree: kernels and terminals too"
_LOGS = "jlabd keeps the lab's output: jlabctl logs NAME"
_ORDER = "the order at boot is that of jlabd.service"
_SCHEDULING = "limits has cpu_quota, memory_max, memory_high, tasks_max and open_files"
_READY = "jlabd waits until the lab answers (ready.timeout)"
_DECLARED = "jlabd knows by the lab's own answers how it is"
LEFT_OUT = {
    **dict.fromkeys(
        ("ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost", "ExecReload", "ExecCondition"), _NO_SCRIPTS
    ),
    **dict.fromkeys(("StandardOutput", "StandardError", "StandardInput", "SyslogIdentifier", "LogLevelMax"), _LOGS),
    **dict.fromkeys(("After", "Before", "Wants", "Requires", "BindsTo", "PartOf", "Conflicts", "Requisite"), _ORDER),
    **dict.fromkeys(("RequiresMountsFor", "DefaultDependencies", "WantedBy", "RequiredBy", "Alias", "Also"), _ORDER),
    **dict.fromkeys(
        ("Nice", "CPUWeight", "CPUShares", "IOWeight", "CPUSchedulingPolicy", "OOMScoreAdjust"), _SCHEDULING
    ),
    **dict.fromkeys(
        ("CPUAffinity", "AllowedCPUs", "IOSchedulingClass", "MemorySwapMax", "Slice", "OOMPolicy"), _SCHEDULING
    ),
    **dict.fromkeys(("Type", "PIDFile", "RemainAfterExit", "NotifyAccess", "WatchdogSec", "GuessMainPID"), _DECLARED),
    **dict.fromkeys(("KillMode", "SendSIGKILL", "SendSIGHUP", "FinalKillSignal"), _TREE),
    **dict.fromkeys(("Description", "Documentation"), "an instance has a name only"),
    "TimeoutStartSec": _READY,
    "Group": "the lab has the groups of its user",
    "SupplementaryGroups": "the lab has the groups of its user",
    "StartLimitIntervalSec": "restart counts failures in a row, and stable_after says when they are forgotten",
    "StartLimitInterval": "restart counts failures in a row, and stable_after says when they are forgotten",
    "SuccessExitStatus": "jlabd takes 0 for an intended end and all else for a failure",
    "RestartPreventExitStatus": "jlabd takes 0 for an intended end and all else for a failure",
}
_SANDBOXES = re.compile(
    "(Protect|Private|Restrict|ReadOnly|ReadWrite|Inaccessible|SystemCall|Capabilit|Ambient|Lock|MemoryDeny|BindPaths|"
    "BindReadOnly|TemporaryFileSystem|IPAddress|Device|RemoveIPC|DynamicUser|RootDirectory|Keyring|SELinux|AppArmor)"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit's file and its drop-ins, in systemd's order."""

    name: str
    """Like `jupyter@alice.service`."""
    main: Given
    dropins: tuple[Given, ...] = ()


def ordered(dropins: Iterable[Given]) -> tuple[Given, ...]:
    """Return drop-ins in the order in which systemd reads them: by name, whatever folder they are in."""
    return tuple(sorted(dropins, key=lambda given: posixpath.basename(given.path)))


def is_template(name: str) -> bool:
    """Tell whether a unit of this name needs an instance to run."""
    found = _UNIT_NAME.fullmatch(name)
    return found is not None and found["instance"] == ""


def read(unit: Unit, manager_home: str = "/root") -> Part:
    """Return what the unit says; `manager_home` is what %h stands for. Raises ImportFailedError."""
    specifiers = _specifiers(unit, manager_home)
    lines = _in_force([line for given in (unit.main, *unit.dropins) for line in systemd_lines(given)])
    found = _UNIT_NAME.fullmatch(unit.name)
    name = (found["instance"] or found["prefix"]) if found else unit.name
    part = Part(Kind.SYSTEMD, unit.main.at(0), name or "lab", owner=unit.main.owner)
    variables: dict[str, str] = {}
    for line in sorted(lines, key=lambda line: line.key == "ExecStart"):
        value = specified(line.value, specifiers)
        if unknown := unknown_specifier(line.value, specifiers):
            why = f"{unknown} is not known here; write what it stands for"
            part.findings.append(Remark(line.place, shown(line.key, line.value), why))
        else:
            findings = list(_line(Line(line.section, line.key, value, line.place), variables))
            variables |= {f.key[1]: f.value for f in findings if isinstance(f, Fact) and f.key[0] == "env"}
            part.findings += findings
    return part


def _specifiers(unit: Unit, home: str) -> dict[str, str]:
    found = _UNIT_NAME.fullmatch(unit.name)
    instance, prefix = (found["instance"] or "", found["prefix"]) if found else ("", unit.name)
    of_a_user = "/systemd/user/" in unit.main.path
    known = {
        "n": unit.name,
        "N": unit.name.removesuffix(".service"),
        "p": prefix,
        "P": _unescaped(prefix),
        "h": HOME if of_a_user else home,
        "u": USER if of_a_user else "root",
        "t": "/run",
        "S": "/var/lib",
        "L": "/var/log",
        "C": "/var/cache",
        "E": "/etc",
    }
    return known | ({"i": instance, "I": _unescaped(instance)} if instance else {})


def _unescaped(text: str) -> str:
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), text.replace("-", "/"))


def _in_force(lines: Sequence[Line]) -> list[Line]:
    """Return the lines that count: of lists all since the last empty one, of others the last."""
    kept: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        same = kept.setdefault((line.section, line.key), [])
        if not line.value or line.key not in _LISTS | _MORE_LISTS:
            same.clear()
        if line.value:
            same.append(line)
    counting = {id(line) for same in kept.values() for line in same}
    return [line for line in lines if id(line) in counting]


def _line(line: Line, variables: Mapping[str, str]) -> Iterator[Finding]:
    key, value, place = line.key, line.value, line.place
    if line.section == "Service" and (key.startswith("Exec") or key in _MORE_LISTS):
        yield from _command_line(line, variables)
    elif line.section == "Service" and key in _LIMITS:
        yield from _limit(line)
    elif key in {"KillSignal", "RestartKillSignal"}:
        yield from stop_signal(value, place, shown(key, value))
    else:
        yield from _plain(key, value, place)


def _command_line(line: Line, variables: Mapping[str, str]) -> Iterator[Finding]:
    key, value, place = line.key, line.value, line.place
    match key:
        case "ExecStart":
            yield from _exec_start(value, place, variables)
        case "Environment":
            for word in split(value, place):
                name, sign, text = word.partition("=")
                if sign:
                    yield Fact(("env", name), text, place)
                else:
                    yield Remark(place, shown(key, word), "it is not NAME=VALUE")
        case "EnvironmentFile":
            yield from _environment_file(value, place)
        case _:
            yield Remark(place, shown(key, value), LEFT_OUT.get(key, "jlabd has nothing like it"))


def _exec_start(value: str, place: Place, variables: Mapping[str, str]) -> Iterator[Finding]:
    prefix = value[: len(value) - len(value.lstrip("@-:+!|"))]
    words = split(value[len(prefix) :], place)
    for sign, why in (
        ("+", "the lab never has more rights than its user"),
        ("!", "the lab never has more rights than its user"),
        ("-", "jlabd takes a failure for one: see restart.policy"),
    ):
        if sign in prefix:
            yield Remark(place, f"{sign} before the program", why)
    if "@" in prefix and len(words) > 1:
        del words[1]
    words = words if ":" in prefix else list(with_variables(words, variables))
    yield from shell.command(words, place)


def _environment_file(value: str, place: Place) -> Iterator[Finding]:
    path = value.removeprefix("-")
    note = "must be there, and belong to root" if value.startswith("-") else "must belong to root"
    yield Fact(("env_file",), path, place, note)


_LIMITS = {
    "LimitNOFILE": "open_files",
    "MemoryMax": "memory_max",
    "MemoryLimit": "memory_max",
    "MemoryHigh": "memory_high",
    "CPUQuota": "cpu_quota",
    "TasksMax": "tasks_max",
}


def _limit(line: Line) -> Iterator[Finding]:
    key, value, place = line.key, line.value, line.place
    name = _LIMITS[key]
    number = value.rpartition(":")[2]
    if number.lower() == "infinity":
        yield Remark(place, shown(key, value), "without the key there is no limit of the lab's own")
    elif name in {"open_files", "tasks_max"} and number.isdigit() and len(number) < 12:
        yield Fact(("limits", name), int(number), place)
    elif name == "cpu_quota" or (name.startswith("memory") and _BYTES.fullmatch(number)):
        yield Fact(("limits", name), number, place)
    else:
        yield Remark(place, shown(key, value), "limits take numbers here, no shares of what the machine has")


def _plain(key: str, value: str, place: Place) -> Iterator[Finding]:
    what = shown(key, value)
    match key:
        case "User":
            yield Fact(("user",), value, place)
        case "WorkingDirectory":
            path = value.removeprefix("-")
            yield Fact(("@cwd",), HOME if path == "~" else path, place)
        case "Restart":
            yield from _restart(value, place, what)
        case "RestartSec" | "TimeoutStopSec" | "TimeoutSec" if _TIME.fullmatch(value):
            yield Fact(("restart", "initial") if key == "RestartSec" else ("stop", "timeout"), _time(value), place)
        case "StartLimitBurst" if value.isdigit() and 0 < len(value) < 7:
            yield Fact(("restart", "give_up_after"), int(value), place)
        case "UMask":
            yield Fact(("umask",), value.zfill(4), place)
        case "NoNewPrivileges" | "PrivateTmp" if value.lower() in _YES:
            yield Fact(("no_new_privileges" if key == "NoNewPrivileges" else "private_tmp",), True, place)
        case _:
            yield Remark(place, what, LEFT_OUT.get(key) or _why(key))


def _why(key: str) -> str:
    if key.startswith("Limit"):
        return _SCHEDULING
    return _SANDBOX if _SANDBOXES.match(key) else "jlabd has nothing like it"


def _restart(value: str, place: Place, what: str) -> Iterator[Finding]:
    policy = _POLICIES.get(value)
    if policy is None:
        yield Remark(place, what, "jlabd knows always, on-failure and never")
    else:
        note = "" if value in {policy, "no"} else f"Restart={value} has no counterpart"
        yield Fact(("restart", "policy"), policy, place, note)


def _time(value: str) -> str:
    """Return a time in jlabd's words."""
    value = re.sub(r"hours?|hr", "h", re.sub(r"seconds?|sec", "s", value)).replace("minutes", "min")
    value = value.replace("minute", "min").strip()
    return f"{value}s" if re.fullmatch(r"[0-9.]+", value) else value
