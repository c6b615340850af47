"""How values are written in the file, as JSON Schema: for editors, which know nothing of `quantities` and `words`.

Wider than what the daemon accepts wherever JSON Schema cannot say it better: an editor that stays silent does no harm,
one that complains about what works does. `jlabd --check` has the last word.
"""

from __future__ import annotations

from pydantic import WithJsonSchema

_Schema = dict[str, object]


def one_of(*words: str) -> WithJsonSchema:
    """Return the form of a text that is one of `words`."""
    return WithJsonSchema({"enum": [str(word) for word in words]})


def whole(lowest: int, highest: int) -> WithJsonSchema:
    """Return the form of a whole number from `lowest` to `highest`."""
    return WithJsonSchema({"type": "integer", "minimum": lowest, "maximum": highest})


def number(lowest: float, highest: float) -> WithJsonSchema:
    """Return the form of a number from `lowest` to `highest`."""
    return WithJsonSchema({"type": "number", "minimum": lowest, "maximum": highest})


def _number_or_text(pattern: str) -> WithJsonSchema:
    written: list[_Schema] = [{"type": "number", "minimum": 0}, {"type": "string", "pattern": pattern}]
    return WithJsonSchema({"anyOf": written})


FLAG = WithJsonSchema({"type": "boolean"})
TEXT = WithJsonSchema({"type": "string"})
TIME = _number_or_text(r"^([0-9]+(\.[0-9]+)? *(ms|s|min|m|h|d)? *)+$")
SIZE = _number_or_text(r"^[0-9]+(\.[0-9]+)? *([KMGTkmgt]([iI][bB])?)?$")
QUOTA = WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? *%$"})
UMASK = WithJsonSchema({"type": "string", "pattern": "^[0-7]{3,4}$"})
SIGNAL = WithJsonSchema({"type": ["string", "integer"]})
PATH = WithJsonSchema({"type": "string", "pattern": r"^(/|\{)"})
PATH_OR_NONE = WithJsonSchema({"type": "string", "pattern": r"^((/|\{).*)?$"})
BASE_URL = WithJsonSchema({"type": "string", "pattern": "^/(.*/)?$"})
ADDRESS = WithJsonSchema({"type": ["string", "integer"]})
ONE_OR_MORE = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
