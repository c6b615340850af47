"""What root may obey only if nobody else could have written it: directives that go to nginx as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from jlabd.config.problems import Problem
from jlabd.config.together import Built
from jlabd.ownership import why_not_only_root


def distrusted(instances: Iterable[Built], uid: int) -> Iterator[Problem]:
    """Yield a problem for each instance with `extra` or `template` from a file that others than root can change."""
    if uid != 0:
        return
    judged: dict[str, str] = {}
    for draft, spec in instances:
        for key in (key for key in ("extra", "template") if getattr(spec.route, key)):
            file = draft.origin(("nginx", key)).file
            if file not in judged:
                judged[file] = _why(file)
            if judged[file]:
                yield draft.problem(
                    ("nginx", key),
                    f"goes to nginx, which root runs, but {judged[file]}",
                )


def _why(file: str) -> str:
    try:
        return why_not_only_root(Path(file))
    except PermissionError:  # an ordinary user asks what root would say
        return ""
    except OSError as error:
        return f"{file} cannot be looked at: {error.strerror or error}"
