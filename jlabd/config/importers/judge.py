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
        done = [_left_out(problem, instances, nginx, left) for problem in problems]
        if not any(done):
            raise ImportFailedError(
                f"what was made of it would not pass jlabd --check: {problems[0].key}: {problems[0].message}"
            )
    raise ImportFailedError("what was made of it would not pass jlabd --check")


def _left_out(problem: Problem, instances: Sequence[Instance], nginx: dict[Key, Fact], left: list[Remark]) -> bool:
    """Leave out the key that has a problem; return whether there was one."""
    for instance in instances:
        for key in list(instance.keys):
            if _is_about(problem, ("instance", instance.name, *key)):
                instance.remarks.append(_remark(instance.keys.pop(key), key, problem))
                return True
    for key in list(nginx):
        if _is_about(problem, key):
            left.append(_remark(nginx.pop(key), key, problem))
            return True
    return False


def _is_about(problem: Problem, key: Key) -> bool:
    return problem.key == dotted(key) or problem.key.startswith((f"{dotted(key)}[", f"{dotted(key)}."))


def _remark(fact: Fact, key: Key, problem: Problem) -> Remark:
    what = dotted(key) if key[0] in _SECRET else quoted(f"{dotted(key)} = {fact.value!r}")
    return Remark(fact.place, what, f"jlabd would not take it: {problem.message}")
