"""Certificates on disk: whether a web server could use them, and how to notice that one was renewed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import ssl
import stat
from collections.abc import Iterator

_LARGEST = 1024 * 1024


class CertificateError(Exception):
    """A certificate cannot be used; `of_key` tells which of the two files is to blame.

    The text goes on after the file's name: "/etc/x.pem does not exist, …".
    """

    def __init__(self, message: str, *, of_key: bool = False) -> None:
        super().__init__(message)
        self.of_key = of_key


class UnreadableError(CertificateError):
    """We may not look into the file; whoever runs the web server perhaps may."""


class _KeyIsEncryptedError(Exception):
    """Somebody would have to be there who types a passphrase."""


def fingerprint(path: str, key_path: str) -> str:
    """Return the SHA-256 of the file with the certificate, in hexadecimal, after finding out that the key fits.

    Raises CertificateError.
    """
    content = _read(path, of_key=False)
    if b"-----BEGIN " not in content:
        raise CertificateError(f"{path} is not a certificate in PEM format (-----BEGIN CERTIFICATE-----)")
    key = _read(key_path, of_key=True)
    if b"-----BEGIN " not in key or b"PRIVATE KEY-----" not in key:
        raise CertificateError(f"{key_path} is not a private key in PEM format", of_key=True)
    try:
        with _in_memory(content) as content_copy, _in_memory(key) as key_copy:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(content_copy, key_copy, password=_refuse)
    except (ssl.SSLError, _KeyIsEncryptedError) as error:
        raise _misfit(path, key_path, error) from None
    except OSError as error:
        raise CertificateError(f"{path} cannot be looked at: {error.strerror or error}") from None
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Give the path of a copy: what OpenSSL reads by name cannot become another file, or a pipe, since we looked."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:  # noqa: PTH123  (a descriptor, not a path)
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"


def _misfit(path: str, key_path: str, error: Exception) -> CertificateError:
    """Say why OpenSSL cannot use the two together, as a web server would."""
    if isinstance(error, _KeyIsEncryptedError):
        return CertificateError(
            f"{key_path} is protected by a passphrase, for which nginx would ask at every start; "
            "write it anew without one (openssl pkey -in OLD -out NEW)",
            of_key=True,
        )
    reason = getattr(error, "reason", None) or error
    if reason == "KEY_VALUES_MISMATCH":
        return CertificateError(f"{key_path} is not the key of the certificate {path}", of_key=True)
    return CertificateError(f"{path} and {key_path} cannot be used by OpenSSL: {reason}")


def _refuse() -> str:
    raise _KeyIsEncryptedError


def _read(path: str, *, of_key: bool) -> bytes:
    try:
        # Not blocking: a FIFO must not stop anybody.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor, not a path)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CertificateError(f"{path} is not a file", of_key=of_key)
            return file.read(_LARGEST)
    except OSError as error:
        raise _unusable(path, error, of_key=of_key) from None


def _unusable(path: str, error: OSError, *, of_key: bool) -> CertificateError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return CertificateError(f"{path} does not exist, write the path of a PEM file", of_key=of_key)
        case errno.EACCES | errno.EPERM:
            return UnreadableError(f"{path} cannot be read: {error.strerror}", of_key=of_key)
        case _:
            return CertificateError(f"{path} cannot be read: {error.strerror or error}", of_key=of_key)
