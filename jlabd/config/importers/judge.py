"""The last look: what is printed must pass `jlabd --check`; what would not becomes a comment with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jlabd.config.importers.findings import Fact, ImportFailedError, Key, Remark, quoted
from jlabd.config.importers.render import render
from jlabd.config.importers.settle import NOBODY, Instance
from jlabd.config.problems import Problem, dotted
from jlabd.config.read import check

_PATH = Path("/jlabctl-import.toml")
_ALONE = '\n[daemon]\ninclude = ""\n'
"""What other files say is not to be blamed on this one."""
_SECRET = frozenset({"password_hash", "env"})


def passing(instances: Sequence[Instance], nginx: dict[Key, Fact], left: list[Remark], files: Sequence[str]) -> str:
    """Return text that passes, for a daemon of root's. Raises ImportFailedError if none does."""
    rounds = sum(len(instance.keys) + 1 for instance in instances) + len(nginx) + 1
    for _ in range(rounds):
        text = render(instances, nginx, left, files)
        problems = [p for p in check(_PATH, uid=0, texts={_PATH: (text + _ALONE).encode()}) if p.file == str(_PATH)]
        if not problems:
            return text
        places = _places(instances, nginx, left)
        if not any([_left_out(problem, places) for problem in problems]):  # noqa: C419  (each is to be left out)
            break
    raise ImportFailedError(
        f"what was made of it would not pass jlabd --check: {problems[0].key}: {problems[0].message}"
    )


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a key is, and where it is said that it is left out."""

    keys: dict[Key, Fact]
    key: Key
    remarks: list[Remark]


def _places(instances: Sequence[Instance], nginx: dict[Key, Fact], left: list[Remark]) -> dict[str, _Spot]:
    """Return where the keys are, by their names in problems."""
    shared = {dotted(key): _Spot(nginx, key, left) for key in nginx}
    own = {
        dotted(("instance", instance.name, *key)): _Spot(instance.keys, key, instance.remarks)
        for instance in instances
        for key in instance.keys
    }
    return shared | own


def _left_out(problem: Problem, places: dict[str, _Spot]) -> bool:
    """Leave out what has a problem, or holds what has one, or causes one; return whether there was anything."""
    spot = next((found for name in _suspects(problem.key) if (found := places.pop(name, None))), None)
    if spot is None:
        return False
    fact = spot.keys.pop(spot.key)
    spot.remarks.append(_remark(fact, spot.key, problem))
    if spot.key == ("user",):
        spot.keys[spot.key] = Fact(spot.key, NOBODY, fact.place, "the account whose lab it is")
    return True


def _suspects(written: str) -> Iterator[str]:
    """Yield the key that a problem names, those around it, and those that make it need one."""
    around = written
    while around:
        yield around
        around = around[: max(around.rfind("."), around.rfind("["), 0)]
    if written.endswith(".base_url"):
        yield written.removesuffix("base_url") + "server_name"
    if written.endswith(".nginx.tls_certificate"):
        yield "nginx.listen"


def _remark(fact: Fact, key: Key, problem: Problem) -> Remark:
    what = dotted(key) if key[0] in _SECRET else quoted(f"{dotted(key)} = {fact.value!r}")
    return Remark(fact.place, what, f"jlabd would not take it: {problem.message}")
