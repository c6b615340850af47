"""Instances as TOML, with a comment for all that was not carried over. Pure."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jlabd.config.amend import written
from jlabd.config.importers.findings import Fact, Key, Remark, quoted
from jlabd.config.importers.settle import Instance
from jlabd.config.problems import dotted

_ORDER = (
    *("user", "root_dir", "venv", "server_name", "base_url", "listen", "password_hash", "config_files", "args"),
    *("env", "env_file", "umask", "autostart", "restart", "stop", "ready", "idle", "limits"),
    *("no_new_privileges", "private_tmp", "log", "kernel", "nginx"),
)
_WRAP: dict[str, Any] = {"width": 120, "break_long_words": False, "break_on_hyphens": False}
_SECRET = frozenset({"password_hash", "env"})


def render(instances: Sequence[Instance], nginx: dict[Key, Fact], left: Sequence[Remark], files: Sequence[str]) -> str:
    """Return the whole text. `left` are remarks about no instance in particular, `files` what was read."""
    lines = list(_opening(files, secret=any(_SECRET & {key[0] for key in one.keys} for one in instances)))
    if nginx:
        lines += ["", "[nginx]  # belongs into the main file, beside what stands there already"]
        lines += [_line(fact.key[0], [fact]) for fact in nginx.values()]
    for instance in instances:
        lines += ["", *_table(instance)]
    if left:
        lines += ["", *_comments("Of no instance:", left)]
    return "\n".join(lines) + "\n"


def _opening(files: Sequence[str], *, secret: bool) -> Iterator[str]:
    yield "# What `jlabctl import` made of"
    yield from (f"#     {quoted(file)}" for file in files)
    yield "# [instance.*] may also stand in a file of its own in /etc/jlabd.d. When it is in place: `jlabctl check`,"
    yield "# stop what ran until now and see that it does not come back, `jlabctl reload`."
    if secret:
        yield "# There may be secrets in it: let nobody but root read the file (chmod 600)."


def _table(instance: Instance) -> Iterator[str]:
    yield f"[{dotted(('instance', instance.name))}]"
    position = {name: number for number, name in enumerate(_ORDER)}
    ordered = sorted(instance.keys.values(), key=lambda fact: position.get(fact.key[0], len(_ORDER)))
    for name, facts in itertools.groupby(ordered, key=lambda fact: fact.key[0]):
        yield _line(name, list(facts))
    if instance.remarks:
        yield ""
        yield from _comments("Not carried over:", instance.remarks)


def _line(name: str, facts: Sequence[Fact]) -> str:
    """Return one key, with what is to be said of it behind it."""
    nested = len(facts[0].key) > 1
    value = {fact.key[1]: fact.value for fact in facts} if nested else facts[0].value
    notes = list(dict.fromkeys(fact.note for fact in facts if fact.note))
    comment = f"  # {'; '.join(map(_safe, notes))}" if notes else ""
    return f"{dotted((name,))} = {written(value)}{comment}"


def _safe(text: str) -> str:
    """Return `text` without what a comment of TOML must not hold."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _comments(title: str, remarks: Iterable[Remark]) -> Iterator[str]:
    """Yield comment lines: things left out for one reason in one file come together."""
    yield f"# {title}"
    groups: dict[tuple[str, str], list[Remark]] = {}
    for remark in sorted(dict.fromkeys(remarks), key=lambda remark: remark.place):
        groups.setdefault((remark.place.file, remark.why), []).append(remark)
    for (file, why), group in groups.items():
        lines = ",".join(dict.fromkeys(str(remark.place.line) for remark in group if remark.place.line))
        place = f"{quoted(file)}:{lines}" if lines else quoted(file)
        whats = ", ".join(dict.fromkeys(remark.what for remark in group))
        yield from textwrap.wrap(
            f"{_safe(place)}: {_safe(whats)}", initial_indent="# ", subsequent_indent="#   ", **_WRAP
        )
        yield from textwrap.wrap(_safe(why), initial_indent="#     ", subsequent_indent="#     ", **_WRAP)
