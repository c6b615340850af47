"""A JSON Schema of the configuration file, from the model that reads it, so that editors complete and check.

Draft 7, which the editors' own tools understand. What it cannot say (which keys exclude each other, which accounts
exist) `jlabd --check` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from jlabd.config.manual import TEXTS
from jlabd.config.model import DaemonTable, InstanceTable, NginxTable, Table, TemplateTable

DRAFT = "http://json-schema.org/draft-07/schema#"
TABLES: dict[str, type[Table]] = {
    "daemon": DaemonTable,
    "nginx": NginxTable,
    "instance": InstanceTable,
    "template": TemplateTable,
}

_Schema = dict[str, Any]
_FOR_PROGRAMS = {"title", "description"}
_NAMES = "^[A-Za-z0-9][A-Za-z0-9_.@-]{0,31}$"


class _WithoutDefaults(GenerateJsonSchema):
    """Leaves out defaults: the model has them as the daemon works with them, not as people write them."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def schema() -> _Schema:
    """Return the schema of a whole file, main or included."""
    _, made = models_json_schema(
        [(table, "validation") for table in TABLES.values()],
        ref_template="#/definitions/{model}",
        schema_generator=_WithoutDefaults,
    )
    definitions = {name: _plain(definition) for name, definition in made["$defs"].items()}
    for name, table in TABLES.items():
        _explain(definitions, table, name)
    named = {name: {"$ref": f"#/definitions/{table.__name__}"} for name, table in TABLES.items()}
    return {
        "$schema": DRAFT,
        "title": "jlabd.toml: the configuration of jlabd",
        "type": "object",
        "properties": {
            "daemon": named["daemon"],
            "nginx": named["nginx"],
            "defaults": named["instance"],
            "instance": _one_each(named["instance"]),
            "template": _one_each(named["template"]),
        },
        "additionalProperties": False,
        "definitions": definitions,
    }


def keys(table: type[Table], prefix: str) -> Iterator[tuple[str, _Schema]]:
    """Yield each key of `table` and of the tables in it, dotted, with the form of its value, in the model's order."""
    made = table.model_json_schema(ref_template="{model}", schema_generator=_WithoutDefaults)
    yield from _keys(_plain(made), made.get("$defs", {}), prefix)


def _keys(table: _Schema, definitions: _Schema, prefix: str) -> Iterator[tuple[str, _Schema]]:
    for key, form in table["properties"].items():
        if "$ref" in form:
            yield from _keys(_plain(definitions[form["$ref"]]), definitions, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", form


def text_of(key: str) -> str:
    """Return what a dotted key means; a template has the keys of an instance, too. Raises KeyError."""
    found = TEXTS.get(key)
    return TEXTS[key.replace("template.", "instance.", 1)] if found is None else found


def _explain(definitions: _Schema, table: type[Table], prefix: str) -> None:
    """Put the texts into the definition of `table` and of the tables in it."""
    for key, form in definitions[table.__name__]["properties"].items():
        if "$ref" not in form:
            form["description"] = text_of(f"{prefix}.{key}")
            continue
        inner = definitions[form["$ref"].rpartition("/")[2]]
        for name, below in inner["properties"].items():
            below["description"] = text_of(f"{prefix}.{key}.{name}")


def _one_each(table: _Schema) -> _Schema:
    return {"type": "object", "patternProperties": {_NAMES: table}, "additionalProperties": False}


def _plain(form: Any) -> Any:
    """Leave out what is there for programs: titles, descriptions of classes, and null, which TOML lacks."""
    if isinstance(form, list):
        return [_plain(part) for part in form if part != {"type": "null"}]
    if not isinstance(form, dict):
        return form
    kept = {key: _plain(value) for key, value in form.items() if not (key in _FOR_PROGRAMS and isinstance(value, str))}
    options = kept.get("anyOf", ())
    return {**kept, **options[0]} if len(options) == 1 and kept.pop("anyOf") else kept
