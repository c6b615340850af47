"""Password hashes as JupyterLab writes and checks them.

The command imports this module: what is slow to import is imported where it is used.
"""

from __future__ import annotations

import re

MEMORY_COST_KIB = 10240
TIME_COST = 10
PARALLELISM = 8

_ARGON2 = re.compile(r"argon2:\$argon2(id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{4,}\$[A-Za-z0-9+/]{4,}")
_SALTED = re.compile(
    r"(?P<algorithm>md5|sha1|sha224|sha256|sha384|sha512|sha3_256|sha3_512|blake2b|blake2s)"
    r":(?P<salt>[^:\s]+):(?P<digest>[0-9a-f]{32,128})"
)


def hash_password(password: str) -> str:
    """Return the hash that stands in `password_hash`, with the cost that JupyterLab itself chooses."""
    from argon2 import PasswordHasher  # noqa: PLC0415  (slow, and only `passwd` needs it)

    hasher = PasswordHasher(memory_cost=MEMORY_COST_KIB, time_cost=TIME_COST, parallelism=PARALLELISM)
    return f"argon2:{hasher.hash(password)}"


def looks_like_hash(text: str) -> bool:
    """Whether `text` is a hash that JupyterLab can check, and not a password or a part of a hash."""
    return bool(_ARGON2.fullmatch(text) or _SALTED.fullmatch(text))
