"""The last look: what is printed must pass `jlabd --check`; what would not becomes a comment with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jlabd.config.importers.findings import Fact, ImportFailedError, Key, Remark, quoted
from jlabd.config.importers.render import render
from jlabd.config.importers.settle import Instance
from jlabd.config.problems import Problem, dotted
from jlabd.config.read import check

_PATH = Path("/jlabctl-import.toml")
_ALONE = '\n[daemon]\ninclude = ""\n'
"""What other files say is not to be blamed on this one."""
_SECRET = frozenset({"password_hash", "env"})


def passing(instances: Sequence[Instance], nginx: dict[Key, Fact], left: list[Remark], files: Sequence[str]) -> str:
    """Return text that passes, for a daemon of root's. Raises ImportFailedError if none does."""
    rounds = sum(len(instance.keys) for instance in instances) + len(nginx) + 1
    for _ in range(rounds):
        text = render(instances, nginx, left, files)
        problems = [p for p in check(_PATH, uid=0, texts={_PATH: (text + _ALONE).encode()}) if p.file == str(_PATH)]
        if not problems:
            return text
        places = _places(instances, nginx, left)
        if not any([_left_out(problem, places) for problem in problems]):  # noqa: C419  (each is to be left out)
            problem = problems[0]
            raise ImportFailedError(
                f"what was made of it would not pass jlabd --check: {problem.key}: {problem.message}"
            )
    raise ImportFailedError("what was made of it would not pass jlabd --check")


_Places = dict[str, tuple[dict[Key, Fact], Key, list[Remark]]]
"""From keys as problems name them to where they are, and where it is said that they are left out."""


def _places(instances: Sequence[Instance], nginx: dict[Key, Fact], left: list[Remark]) -> _Places:
    shared: _Places = {dotted(key): (nginx, key, left) for key in nginx}
    own: _Places = {
        dotted(("instance", instance.name, *key)): (instance.keys, key, instance.remarks)
        for instance in instances
        for key in instance.keys
    }
    return shared | own


def _left_out(problem: Problem, places: _Places) -> bool:
    """Leave out the key that has a problem, or that holds what has one; return whether there was one."""
    written = problem.key
    while written and written not in places:
        written = written[: max(written.rfind("."), written.rfind("["), 0)]
    if not written:
        return False
    keys, key, remarks = places.pop(written)
    remarks.append(_remark(keys.pop(key), key, problem))
    return True


def _remark(fact: Fact, key: Key, problem: Problem) -> Remark:
    what = dotted(key) if key[0] in _SECRET else quoted(f"{dotted(key)} = {fact.value!r}")
    return Remark(fact.place, what, f"jlabd would not take it: {problem.message}")
