"""What reading the configuration files gives."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from jlabd.config.problems import Problem
from jlabd.spec import Configuration


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the configuration files ask for, and what had to be left out."""

    configuration: Configuration
    problems: tuple[Problem, ...] = ()
    """Of included files only."""
    broken_files: frozenset[str] = frozenset()
    """Included files whose instances are absent because of a problem in them."""


def frozen(mapping: dict[str, Any]) -> MappingProxyType[str, Any]:
    """Return a view of `mapping` that cannot be changed; by its name such views can be pickled."""
    return MappingProxyType(mapping)
