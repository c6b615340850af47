"""Certificates on disk: whether a web server could use them, and how to notice that one was renewed."""

from __future__ import annotations

import errno
import hashlib
import os
import ssl
import stat

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
    if b"-----BEGIN " not in (key := _read(key_path, of_key=True)) or b"PRIVATE KEY-----" not in key:
        raise CertificateError(f"{key_path} is not a private key in PEM format", of_key=True)
    _fit(path, key_path)
    return hashlib.sha256(content).hexdigest()


def _fit(path: str, key_path: str) -> None:
    """Let OpenSSL load both as a web server would. Raises CertificateError."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, key_path, password=_refuse)
    except _KeyIsEncryptedError:
        raise CertificateError(
            f"{key_path} is protected by a passphrase, for which nginx would ask at every start; "
            "write it anew without one (openssl pkey -in OLD -out NEW)",
            of_key=True,
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(f"{key_path} is not the key of the certificate {path}", of_key=True) from None
        raise CertificateError(f"{path} and {key_path} cannot be used by OpenSSL: {error.reason or error}") from None
    except OSError as error:  # replaced since it was read
        raise _unusable(path, error, of_key=False) from None


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
