"""What of the machine, besides the configuration, decides what nginx is told."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from jlabd.certificates import CertificateError, UnreadableError, fingerprint
from jlabd.core.hosts import Certificate, certificates
from jlabd.nginx.allowed import RenderError
from jlabd.nginx.command import CommandRunner
from jlabd.ownership import why_not_only_root
from jlabd.spec import Configuration
from jlabd.threads import in_thread

PATIENCE_S = 2.0
"""How long a certificate and a key may not fit: programs that renew them replace one after the other."""

_STEP_S = 0.25
_VERSION_TIMEOUT_S = 10.0
_VERSION = re.compile(r"(?:nginx|openresty)/([0-9]+)\.([0-9]+)\.([0-9]+)")
_FIRST_WITH_HTTP2_DIRECTIVE = (1, 25, 1)
_LARGEST_TEMPLATE = 1024 * 1024


class SurroundingsError(RenderError):
    """A file that the configuration names cannot be used; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is on disk, and which nginx. Equal ones give the same text."""

    fingerprints: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Path of a certificate → SHA-256 of its file. With it a renewed certificate is another configuration."""
    templates: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Path → text of the administrator's own templates."""
    http2_directive: bool = False
    """HTTP/2 is a directive of its own, and as a word of `listen` deprecated."""


async def look(configuration: Configuration, run: CommandRunner) -> Surroundings:
    """Look at the files that `configuration` names, and at nginx itself if that matters. Raises SurroundingsError."""
    pairs = certificates(configuration)
    paths = {spec.route.template for spec in configuration.instances.values()} - {""}
    if not pairs and not paths:
        return Surroundings()
    return Surroundings(
        await _fingerprints(pairs) if pairs else {},
        await in_thread(lambda: {path: _template(path) for path in paths}) if paths else {},
        bool(pairs) and configuration.nginx.http2 and await _has_directive(configuration.nginx.test_command, run),
    )


async def _fingerprints(pairs: Sequence[Certificate]) -> Mapping[str, str]:
    """Read the certificates, again and again for a while if one does not fit its key. Raises SurroundingsError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while True:
        try:
            return await in_thread(lambda: dict(map(_fingerprint, pairs)))
        except CertificateError as error:
            if loop.time() > deadline:
                raise SurroundingsError(f"TLS: {error}.") from error
        await asyncio.sleep(_STEP_S)


def _fingerprint(pair: Certificate) -> tuple[str, str]:
    """Return the path and the fingerprint of a certificate. Raises CertificateError."""
    try:
        return pair.path, fingerprint(pair.path, pair.key_path)
    except UnreadableError:
        if os.geteuid() == 0:
            raise
        # nginx, started by somebody who may, judges what is in it; that the file was replaced can be seen all the same.
        return pair.path, _identity(pair.path)


def _identity(path: str) -> str:
    try:
        status = Path(path).stat()
    except OSError:
        return "unknown"
    return f"{status.st_dev}-{status.st_ino}-{status.st_mtime_ns}"


def _template(path: str) -> str:
    """Read a template that is as trusted as nginx's own configuration. Raises SurroundingsError."""
    try:
        why = why_not_only_root(Path(path)) if os.geteuid() == 0 else ""
        if why:
            raise SurroundingsError(f"The template {path} is not for nginx, which root runs: {why}.")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with open(descriptor, encoding="utf-8") as file:  # noqa: PTH123  (a descriptor, not a path)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SurroundingsError(f"The template {path} is not a file.")
            return file.read(_LARGEST_TEMPLATE)
    except UnicodeDecodeError:
        raise SurroundingsError(f"The template {path} is not UTF-8.") from None
    except OSError as error:
        raise SurroundingsError(f"The template {path} cannot be read: {error.strerror or error}.") from error


async def _has_directive(test_command: Sequence[str], run: CommandRunner) -> bool:
    """Ask nginx for its version. If that is not understood it is taken for an old one: new ones bear that."""
    if "-t" not in test_command:
        return False
    argv = ["-v" if word == "-t" else word for word in test_command]
    found = _VERSION.search((await run(argv, _VERSION_TIMEOUT_S)).output)
    return found is not None and tuple(map(int, found.groups())) >= _FIRST_WITH_HTTP2_DIRECTIVE
