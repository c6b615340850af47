"""Instances on their way from tables to specs: inheriting, merging, and finding back where a value came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jlabd.config.problems import Key, Problem
from jlabd.config.sources import Raw, Source

_RIVALS = (("password_hash", "password_hash_file"), ("command", "config_files"))
"""Keys of which an instance's own choice puts the other of the defaults out of force."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A table that an instance takes values from, and where it stands."""

    source: Source
    at: Key
    values: Raw


@dataclass(frozen=True, slots=True)
class Draft:
    """An instance whose values are merged, not yet judged."""

    name: str
    values: Raw
    own: Layer
    """`[instance.NAME]` or `[template.NAME]`."""
    defaults: Layer

    @property
    def file(self) -> str:
        """The file that defines the instance."""
        return self.own.source.file

    def problem(self, key: Key, message: str) -> Problem:
        """Return a problem with `key`, placed where its value was given."""
        own, inherited = (_depth(layer.values, key) for layer in (self.own, self.defaults))
        layer, depth = (self.defaults, inherited) if inherited > own else (self.own, own)
        # Numbers of items that the file does not have come from a single text that stands for a list.
        names = (part for n, part in enumerate(key) if n < depth or isinstance(part, str))
        return layer.source.problem((*layer.at, *names), message)


def _depth(values: Any, key: Key) -> int:
    """Return how many parts of `key` exist in `values`."""
    for n, part in enumerate(key):
        match values:
            case dict() if part in values:
                values = values[part]
            case list() if isinstance(part, int) and part < len(values):
                values = values[part]
            case _:
                return n
    return len(key)


def inherit(defaults: Raw, own: Raw) -> Raw:
    """Return `own` completed by `defaults`, tables key by key."""
    kept = dict(defaults)
    for one, other in _RIVALS:
        if one in own and other not in own:
            kept.pop(other, None)
        if other in own and one not in own:
            kept.pop(one, None)
    return _merge(kept, own)


def _merge(below: Raw, above: Raw) -> Raw:
    merged = below | above
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merge(below[key], above[key])
    return merged


def strings(value: Any, key: Key = ()) -> Iterator[tuple[Key, str]]:
    """Yield every text in `value` with its key; names of keys are not texts."""
    match value:
        case str():
            yield key, value
        case dict():
            for name, below in value.items():
                yield from strings(below, (*key, name))
        case list():
            for number, below in enumerate(value):
                yield from strings(below, (*key, number))
