"""The secrets of the instances: token, cookie secret, password hash.

Token and cookie secret are derived from one random key of the daemon, so that they survive restarts without being
stored for each instance, and change with the password, so that a new password ends what the old one opened.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from jlabd.files import write_atomically
from jlabd.jupyter.adminfile import AdminFileError, read_admin_file, read_all
from jlabd.jupyter.passwords import looks_like_hash
from jlabd.spec import InstanceSpec

KEY_BYTES = 32
KEY_FILE = "secret"


class SecretsError(Exception):
    """An instance's secrets cannot be had; the text is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What one instance keeps to itself. Nothing of it is ever logged."""

    token: str = field(repr=False)
    """Opens the lab without the password; text that may stand in a URL."""
    cookie_secret: str = field(repr=False)
    """Signs the login cookies; hexadecimal."""
    password_hash: str = field(repr=False)
    """As JupyterLab writes it; empty if there is no password."""


class SecretKeeper:
    """Knows the key, and from it the secrets of every instance. Blocks for the time of small reads."""

    def __init__(self, state_dir: str) -> None:
        """Read the key in `state_dir`, or make one. Raises SecretsError.

        Nobody but the daemon's own account may be able to write that folder.
        """
        path = Path(state_dir) / KEY_FILE
        try:
            if not os.path.lexists(path):
                write_atomically(path, secrets.token_bytes(KEY_BYTES), mode=0o600)
            self._key = _read_key(path)
        except OSError as error:
            raise SecretsError(f"cannot use the key {path}: {error.strerror}") from error

    def __repr__(self) -> str:
        return "SecretKeeper()"

    def secrets_for(self, spec: InstanceSpec, uid: int | None = None) -> Secrets:
        """Return the secrets of `spec`, whose files may also belong to the user `uid`. Raises SecretsError."""
        owners = {0, os.geteuid()} | ({uid} if uid is not None else set())
        password_hash = spec.password_hash
        if spec.password_hash_file:
            password_hash = _first_word("password_hash_file", spec.password_hash_file, owners)
            if not looks_like_hash(password_hash):
                raise SecretsError(
                    f"password_hash_file: {spec.password_hash_file} holds no hash that JupyterLab can check: "
                    "make one with jlabctl passwd"
                )
        given = _first_word("token_file", spec.token_file, owners) if spec.token_file else ""
        return Secrets(
            token=given or self._derive("token", spec.name, password_hash),
            cookie_secret=self._derive("cookie", spec.name, password_hash, given),
            password_hash=password_hash,
        )

    def _derive(self, purpose: str, *inputs: str) -> str:
        # Each input is hashed for itself, so that no two lists of inputs read the same.
        message = b"".join(hashlib.sha256(text.encode()).digest() for text in (purpose, *inputs))
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


def _read_key(path: Path) -> bytes:
    """Return the key at `path`. Raises SecretsError if others may know it, OSError if it cannot be read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise SecretsError(
                f"the key {path} is not a private file of the daemon's own account: "
                "remove it, and a new one is made (everybody has to log in again)"
            )
        key = read_all(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise SecretsError(f"the key {path} is damaged: remove it, and a new one is made")
    return key


def _first_word(what: str, path: str, owners: set[int]) -> str:
    """Return what the file `path` holds, which must be one word. Raises SecretsError."""
    try:
        text = read_admin_file(path, owners).strip()
    except AdminFileError as error:
        raise SecretsError(f"{what}: {error}") from error
    if not text or not text.isprintable() or len(text.split()) != 1:
        raise SecretsError(f"{what}: {path} must hold one line without spaces, and nothing else")
    return text
