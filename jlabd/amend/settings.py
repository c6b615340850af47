"""`--set KEY=VALUE`: any key of an instance, as one would write it in the file. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any


class SettingError(Exception):
    """What was written is no setting; the text says what would be one."""


def merged(values: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return `values` and `settings` together. Raises SettingError."""
    result = _copy(values)
    for setting in settings:
        *tables, key, value = _parsed(setting)
        table = result
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise SettingError(f"--set {setting}: {name} is set to a value already")
        if key in table:
            raise SettingError(f"--set {setting}: {key} is set twice")
        table[key] = value
    return result


def _copy(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in values.items()}


def _parsed(setting: str) -> list[Any]:
    """Return the parts of the key, and the value."""
    key, equals, text = setting.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise SettingError(f"--set {setting}: write KEY=VALUE, like --set umask=0027 or --set idle.stop_after=2h")
    return [*parts, _value(text.strip())]


def _value(text: str) -> Any:
    """Return what TOML says of `text`; what is not TOML is taken as a text, so that 2h needs no quotes."""
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if found.keys() == {"value"} else text
