"""Times, sizes, counts and the like, from what the file says to what the daemon works with.

Each function takes any value of TOML and returns the quantity, or raises ValueError with a sentence that says what is
wrong and what would be right. Booleans are not numbers here, and texts are not booleans.
"""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Callable
from typing import TypeGuard

from jlabd.config.problems import shown

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_TIME_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(ms|s|min|m|h|d) *")
_TIME = re.compile(rf"(?:{_TIME_PART.pattern})+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_LONGEST_S = 365 * 86400.0
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(?:([KMGT])(?:iB)?)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_LARGEST = 2**50
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?) *%")
_UMASK = re.compile(r"[0-7]{3,4}")
_USELESS_SIGNALS = {"STOP", "CONT", "CHLD", "TSTP", "TTIN", "TTOU", "URG", "WINCH"}

Number = int | float


def _is_number(value: object) -> TypeGuard[Number]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def flag(value: object) -> bool:
    """Return a boolean."""
    if isinstance(value, bool):
        return value
    raise ValueError(f"{shown(value)} is neither true nor false (without quotes)")


def seconds(value: object) -> float:
    """Return a time in seconds, 0 included."""
    amount = _seconds(value)
    if amount is None or math.isnan(amount):
        raise ValueError(f'{shown(value)} is not a time, write a number of seconds or a text like "90s", "5min", "2h"')
    if not 0 <= amount <= _LONGEST_S:
        raise ValueError(f"{shown(value)} is out of range, a time is at least 0 and at most 365d")
    return amount


def _seconds(value: object) -> float | None:
    if _is_number(value):
        # Compared before it is converted: TOML's integers may be larger than any float.
        return math.inf if value > _LONGEST_S else -1.0 if value < 0 else float(value)
    if not isinstance(value, str):
        return None
    if _NUMBER.fullmatch(value):
        return float(value)
    if not _TIME.fullmatch(value):
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in _TIME_PART.findall(value))


def positive_seconds(value: object) -> float:
    """Return a time in seconds, at least a millisecond."""
    amount = seconds(value)
    if amount < _UNITS_S["ms"]:
        raise ValueError(f'{shown(value)} is too short, write a time above 0, like "30s"')
    return amount


def size(value: object) -> int:
    """Return a size in bytes."""
    amount = _size(value)
    if amount is None:
        raise ValueError(f'{shown(value)} is not a size, write a number of bytes or a text like "512M", "4G"')
    if not 0 <= amount <= _LARGEST:
        raise ValueError(f"{shown(value)} is out of range, a size is at least 0 and at most 1024T")
    return int(amount)


def _size(value: object) -> Number | None:
    if _is_whole(value):
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else float(found[1]) * _UNITS[(found[2] or "").lower()]


def memory(value: object) -> int:
    """Return an amount of memory that a program could begin with, in bytes."""
    amount = size(value)
    if amount < _UNITS["m"]:
        raise ValueError(f'{shown(value)} is too little memory for any program, write at least "1M", rather "2G"')
    return amount


def log_size(value: object) -> int:
    """Return the size at which a log is rotated, in bytes."""
    amount = size(value)
    if amount < _UNITS["k"] * 4:
        raise ValueError(f'{shown(value)} is too small for a log, write at least "4K"')
    return amount


def cores(value: object) -> float:
    """Return a share of processor time, 1.0 being one core."""
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'{shown(value)} is not a quota, write percents of one core like "200%"')
    share = float(found[1]) / 100
    if not 0.01 <= share <= 10_000:
        raise ValueError(f"{shown(value)} is out of range, a quota is at least 1% and at most 1000000%")
    return share


def umask(value: object) -> int:
    """Return a file mode creation mask."""
    if isinstance(value, str) and _UMASK.fullmatch(value) and int(value, 8) <= 0o777:
        return int(value, 8)
    raise ValueError(f'{shown(value)} is not a umask, write octal digits like "0077"')


def stop_signal(value: object) -> int:
    """Return the number of the signal that asks a server to end."""
    number = _signal_number(value)
    if number is None:
        raise ValueError(f'{shown(value)} is not a signal, write a name like "TERM"')
    if number == signal.SIGINT:
        raise ValueError('SIGINT does not stop JupyterLab, it would leave its kernels behind; write "TERM"')
    if number in {signal.Signals[f"SIG{name}"] for name in _USELESS_SIGNALS}:
        raise ValueError(f'{shown(value)} does not end a program, write a name like "TERM"')
    return number


def _signal_number(value: object) -> int | None:
    if _is_whole(value):
        return value if value in signal.valid_signals() else None
    if not isinstance(value, str):
        return None
    name = value.upper().removeprefix("SIG")
    return next((int(s) for s in signal.Signals if s.name == f"SIG{name}"), None)


def whole(lowest: int, highest: int) -> Callable[[object], int]:
    """Return a function that takes whole numbers from `lowest` to `highest`."""

    def parse(value: object) -> int:
        if _is_whole(value) and lowest <= value <= highest:
            return value
        raise ValueError(f"{shown(value)} does not fit, write a whole number from {lowest} to {highest}")

    return parse


def factor(value: object) -> float:
    """Return the factor by which delays between restarts grow."""
    if _is_number(value) and 1 <= value <= 10:
        return float(value)
    raise ValueError(f"{shown(value)} does not fit, write a number from 1 to 10")
