"""From a raw table to a model of it, with sentences for all that is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from jlabd.config.model import Table
from jlabd.config.problems import Key
from jlabd.config.sources import Raw

Finding = tuple[Key, str]
"""A key below the validated table, and what is wrong with it."""

_Table = TypeVar("_Table", bound=Table)

_STRUCTURE = {
    "list_type": 'must be a list, write ["…", "…"]',
    "dict_type": 'must be a table, write { KEY = "VALUE" }',
    "model_type": "must be a table, write { KEY = VALUE }",
    "too_short": "is an empty list, write at least one item",
}


def validate(model: type[_Table], raw: Raw) -> tuple[_Table, list[Finding]]:
    """Return a `model` of `raw` and everything that is wrong with it.

    What is wrong is left out of the model, with all of its top-level key, so that the rest can be looked at further.
    """
    try:
        return model.model_validate(raw), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    wrong = {detail["loc"][0] for detail in details}
    rest = {key: value for key, value in raw.items() if key not in wrong}
    return model.model_validate(rest), [_finding(model, detail) for detail in details]


def _finding(model: type[Table], detail: ErrorDetails) -> Finding:
    """Say what pydantic found, without the value: it may be a secret."""
    key = tuple(part for part in detail["loc"] if part != "[key]")
    match detail["type"]:
        case "value_error":
            return key, str(detail["ctx"]["error"])
        case "extra_forbidden":
            return key, unknown_key(str(key[-1]), _keys_of(model, key[:-1]), dict(_nested_keys(model)))
        case kind:
            return key, _STRUCTURE.get(kind, detail["msg"])


def unknown_key(key: str, known: list[str], elsewhere: dict[str, str] | None = None) -> str:
    """Return the sentence for a key that does not exist; `elsewhere` maps keys of other tables to their whole names."""
    if elsewhere is not None and key in elsewhere and key not in known:
        return f"is unknown here, did you mean {elsewhere[key]}?"
    if nearest := difflib.get_close_matches(key, known, n=1):
        return f"is unknown, did you mean {nearest[0]}?"
    return f"is unknown, the keys here are {', '.join(sorted(known))}"


def _keys_of(model: type[Table], table: Key) -> list[str]:
    for name in table:
        model = _table_at(model, name) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _table_at(model: type[Table], key: Any) -> type[Table] | None:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if key == (field.alias or name) and isinstance(kind, type) and issubclass(kind, Table):
            return kind
    return None


def _nested_keys(model: type[Table]) -> Iterator[tuple[str, str]]:
    """Yield the keys of inline tables with their whole names, unless a key stands in several."""
    found: dict[str, list[str]] = {}
    for table in _keys_of(model, ()):
        if below := _table_at(model, table):
            for key in _keys_of(below, ()):
                found.setdefault(key, []).append(f"{table}.{key}")
    yield from ((key, names[0]) for key, names in found.items() if len(names) == 1)
