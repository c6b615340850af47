"""What can only be told by a look at the files that the configuration names: certificates, templates, folders.

Asked for by `jlabd --check` and at a reload. Not when the daemon starts: labs shall run whatever became of a
certificate, and what is wrong is told then by what brings nginx into line.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from jlabd.certificates import CertificateError, UnreadableError, fingerprint
from jlabd.config.problems import Key, Problem
from jlabd.config.sources import Source
from jlabd.config.together import Built
from jlabd.core.hosts import Certificate, shared_certificate, speaks_tls
from jlabd.ownership import why_links_could_be_laid, why_not_only_root
from jlabd.spec import NginxSpec, RouteSpec

PATIENCE_S = 1.0
"""How long certificates and keys may not fit: programs that renew them replace one after the other."""

_STEP_S = 0.2


def look(main: Source, nginx: NginxSpec, instances: Iterable[Built], uid: int) -> Iterator[Problem]:
    """Yield a problem for each file that cannot be used, for a daemon of user `uid`."""
    if not nginx.enabled:
        return
    built, deadline = list(instances), time.monotonic() + PATIENCE_S
    if pair := shared_certificate(nginx):
        yield from (main.problem(("nginx", *key), wrong) for key, wrong in _about_pair(pair, deadline))
    elif any(map(speaks_tls, nginx.listen)) and not any(spec.route.tls_certificate for _, spec in built):
        yield main.problem(("nginx", "tls_certificate"), "is missing: nginx.listen says ssl; write the path of one")
    for key in ("acme_root", "access_log_dir"):
        folder = getattr(nginx, key)
        if folder and not _may_be_folder(folder):
            yield main.problem(("nginx", key), f"{folder} is not a folder, make it or write another one")
    if nginx.access_log_dir and uid == 0 and (why := _why_not_for_logs(nginx)):
        yield main.problem(("nginx", "access_log_dir"), f"is where nginx writes as root, but {why}")
    for draft, spec in built:
        yield from (draft.problem(("nginx", *key), wrong) for key, wrong in _about_route(spec.route, uid, deadline))


def _about_route(route: RouteSpec, uid: int, deadline: float) -> Iterator[tuple[Key, str]]:
    if route.tls_certificate and route.tls_certificate_key:
        yield from _about_pair(Certificate(route.tls_certificate, route.tls_certificate_key), deadline)
    if route.template and (wrong := _about_template(Path(route.template), uid)):
        yield ("template",), wrong


def _about_pair(pair: Certificate, deadline: float) -> Iterator[tuple[Key, str]]:
    # What an ordinary user may not read may be in order; who runs nginx will see.
    error = _settled(pair, deadline) if pair.key_path else None
    if error is not None and (os.geteuid() == 0 or not isinstance(error, UnreadableError)):
        yield (("tls_certificate_key" if error.of_key else "tls_certificate"),), str(error)


def _settled(pair: Certificate, deadline: float) -> CertificateError | None:
    """Return why a certificate cannot be used, once the monotonic clock is at `deadline`."""
    while True:
        try:
            fingerprint(pair.path, pair.key_path)
        except CertificateError as error:
            if time.monotonic() > deadline:
                return error
        else:
            return None
        time.sleep(_STEP_S)


def _about_template(path: Path, uid: int) -> str:
    try:
        if not path.is_file():
            return f"{path} is not a file, write the path of a template"
        why = why_not_only_root(path) if uid == 0 else ""
    except PermissionError:  # so is the template
        return ""
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"
    return f"goes to nginx, which root runs, but {why}" if why else ""


def _why_not_for_logs(nginx: NginxSpec) -> str:
    try:
        workers = frozenset({pwd.getpwnam(nginx.group).pw_uid})  # by default the account has its name from the group
    except KeyError:
        workers = frozenset()
    try:
        return why_links_could_be_laid(Path(nginx.access_log_dir), workers)
    except OSError:  # there is none, or an ordinary user asks
        return ""


def _may_be_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except PermissionError:  # somebody else may see it
        return True
