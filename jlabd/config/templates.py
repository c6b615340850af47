"""`[template.NAME]`: one instance for each of some users, {user} and {home} filled in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jlabd.config.accounts import Accounts
from jlabd.config.drafts import Draft, Layer, inherit, strings
from jlabd.config.model import TemplateTable
from jlabd.config.problems import Key, Problem
from jlabd.config.sources import Raw
from jlabd.config.validate import Finding, validate

# ${name} belongs to the shell or whoever reads the value.
_PLACEHOLDER = re.compile(r"(?<!\$)\{([A-Za-z_]+)\}")
_FILLED = frozenset({"user", "home"})
_IN_COMMAND = _FILLED | {"socket", "port", "base_url"}
_SAMPLE = {"user": "user", "home": "/home/user"}
_SELECTORS = ("users", "unix_group")
_SECRET = {"env", "password_hash", "args", "command"}
_NO_HOME = "/nonexistent"
"""For a user that does not exist; the instance fails at its start and says so."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """What became of one template."""

    drafts: tuple[Draft, ...]
    problems: tuple[Problem, ...]


def expand(own: Layer, defaults: Layer, accounts: Accounts) -> Expansion:
    """Return the instances of the template `own`."""
    raw = {key: value for key, value in own.values.items() if key not in _SELECTORS}
    values = inherit({key: value for key, value in defaults.values.items() if key != "user"}, raw)
    whole = Draft("", values, own, defaults)
    selectors = {key: own.values[key] for key in _SELECTORS if key in own.values}
    table, findings = validate(TemplateTable, {**filled(values, _SAMPLE), **selectors})
    unfilled = placeholders(values)
    findings = unfilled + [finding for finding in findings if finding[0] not in dict(unfilled)]
    if "user" in raw:
        findings.append((("user",), "does not belong into a template, each instance runs as its own user"))
    if not findings:
        users, findings = _users(table, accounts)
        drafts = tuple(_drafts(users, whole, accounts))
        return Expansion(drafts, _problems(whole, findings))
    return Expansion((), _problems(whole, findings))


def _problems(draft: Draft, findings: list[Finding]) -> tuple[Problem, ...]:
    return tuple(draft.problem(key, message) for key, message in findings)


def _users(table: TemplateTable, accounts: Accounts) -> tuple[list[str], list[Finding]]:
    """Return whom a template stands for, and what is wrong with saying so."""
    match table.users, table.unix_group:
        case None, None:
            return [], [((), 'stands for nobody, write users = ["NAME"] or unix_group = "NAME"')]
        case list(users), None:
            twice = [n for n, user in enumerate(users) if user in users[:n]]
            return list(dict.fromkeys(users)), [(("users", n), f"{users[n]!r} is named twice") for n in twice]
        case None, str(group):
            return _members(group, accounts)
        case _:
            return [], [(("unix_group",), "cannot be used together with users, keep one of them")]


def _members(group: str, accounts: Accounts) -> tuple[list[str], list[Finding]]:
    try:
        return accounts.members(group), []
    except KeyError:
        return [], [(("unix_group",), f"there is no group {group!r} on this machine, create it or correct the name")]


def _drafts(users: list[str], whole: Draft, accounts: Accounts) -> Iterator[Draft]:
    needs_home = any("{home}" in text for _, text in strings(whole.values))
    for user in users:
        home = _home(user, accounts) if needs_home else _NO_HOME
        values = filled(whole.values, {"user": user, "home": home})
        yield Draft(user, {**values, "user": user}, whole.own, whole.defaults)


def _home(user: str, accounts: Accounts) -> str:
    try:
        return accounts.home(user)
    except KeyError:
        return _NO_HOME


def filled(value: Any, words: Mapping[str, str]) -> Any:
    """Return `value` with {user} and {home} replaced in all of its texts; other braces stay."""
    match value:
        case str():
            return _PLACEHOLDER.sub(lambda found: words.get(found[1], found[0]), value) if "{" in value else value
        case dict():
            return {key: filled(below, words) for key, below in value.items()}
        case list():
            return [filled(below, words) for below in value]
        case _:
            return value


def sample(values: Raw) -> Raw:
    """Return `values` as some user would see them, to judge what is not about her."""
    return {key: filled(value, _SAMPLE) for key, value in values.items()}


def placeholders(values: Raw) -> list[Finding]:
    """Return a finding for each placeholder that nothing fills in."""
    of_command = {"command", "args"} if "command" in values else set()
    return [
        (key, _unknown_placeholder(key, found[1]))
        for key, text in strings(values)
        for found in _PLACEHOLDER.finditer(text)
        if found[1] not in (_IN_COMMAND if key[0] in of_command else _FILLED)
    ]


def _unknown_placeholder(key: Key, name: str) -> str:
    what = "holds a placeholder" if key[0] in _SECRET else f"{{{name}}} is a placeholder"
    return f"{what} that nothing fills in, there are {{user}} and {{home}}"
