"""Instances on their way from tables to specs: inheriting, merging, and finding back where a value came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jlabd.config.problems import Key, Problem, dotted
from jlabd.config.sources import Raw, Source, depth

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

    def origin(self, key: Key) -> Source:
        """Return the file in which the value of `key` is given."""
        return self.defaults.source if self._is_inherited(key) else self.own.source

    def _is_inherited(self, key: Key) -> bool:
        return depth(self.defaults.values, key) > depth(self.own.values, key)

    def problem(self, key: Key, message: str) -> Problem:
        """Return a problem with `key`, placed where its value was given.

        An instance in an included file is always a problem of that file, also with what it inherits: it must not make
        the main file unusable. (What is wrong with the defaults by themselves is told elsewhere.)
        """
        inherited = self._is_inherited(key)
        if inherited and self.defaults.source is self.own.source:
            return self.defaults.source.problem((*self.defaults.at, *key), message)
        origin = f" (inherited from {dotted((*self.defaults.at, *key))})" if inherited else ""
        return self.own.source.problem((*self.own.at, *key), message + origin)


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
