"""Looks whether browsers will like the certificates: by a handshake in memory, as they would make one."""

from __future__ import annotations

import re
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from jlabd.certificates import CertificateError, UnreadableError, fingerprint
from jlabd.core.hosts import Certificate, certificate_of
from jlabd.doctor.findings import Finding, advice, good, unknown, wrong
from jlabd.spec import Configuration

SUBJECT = "TLS"
SOON_S = 14 * 86400
"""A certificate that ends earlier should have been renewed: certbot does it 30 days before."""

_LEAF = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_DAY_S = 86400


def examine(configuration: Configuration) -> Iterator[Finding]:
    """Look at each certificate, and at the name under which people come to each host."""
    if not configuration.nginx.enabled:
        return
    for pair, names in _hosts(configuration).items():
        yield from about(pair, sorted(names), time.time())


def _hosts(configuration: Configuration) -> dict[Certificate, set[str]]:
    """Return each certificate with the hosts that it is shown for."""
    found: dict[Certificate, set[str]] = {}
    nginx = configuration.nginx
    for spec in configuration.instances.values():
        pair = certificate_of(spec, nginx)
        host = spec.server_name or next(iter(nginx.server_names), "")
        if pair is not None and host:
            found.setdefault(pair, set()).add(host)
    return found


def about(pair: Certificate, names: list[str], now: float) -> Iterator[Finding]:
    """Say what is wrong with a certificate for hosts called `names`, at the time `now` (seconds since 1970)."""
    try:
        fingerprint(pair.path, pair.key_path)
        ends = _end(pair)
        key_mode = Path(pair.key_path).stat().st_mode
    except UnreadableError as error:
        yield unknown(SUBJECT, f"{error}", "run sudo jlabctl doctor")
        return
    except (CertificateError, OSError, ssl.SSLError) as error:
        yield wrong(SUBJECT, f"{error}", "correct the path, or make the certificate anew")
        return
    if key_mode & stat.S_IROTH:
        yield wrong(SUBJECT, f"everybody on this machine can read {pair.key_path}", f"chmod 600 {pair.key_path}")
    strangers = [name for name in names if not _is_for(pair, name)]
    for name in strangers:
        yield wrong(
            SUBJECT,
            f"{pair.path} is not for {name}, so browsers refuse to go there",
            f"have a certificate made for {name}, too",
        )
    yield _about_end(pair, ends - now)


def _about_end(pair: Certificate, left_s: float) -> Finding:
    if left_s <= 0:
        return wrong(
            SUBJECT, f"{pair.path} has expired, so browsers refuse it", "renew it: certbot renew, for instance"
        )
    days = int(left_s // _DAY_S)
    if left_s > SOON_S:
        return good(SUBJECT, f"{pair.path} is valid for {days} more days")
    return advice(
        SUBJECT,
        f"{pair.path} is valid for {days} more days only, and was not renewed",
        "look why: systemctl status certbot-renew.timer; certbot renew --dry-run",
    )


def _end(pair: Certificate) -> float:
    """Return when the certificate ends, in seconds since 1970. Raises ssl.SSLError, OSError."""
    shown = _handshake(pair, None)
    return float(ssl.cert_time_to_seconds(str(shown["notAfter"])))


def _is_for(pair: Certificate, name: str) -> bool:
    """Tell whether a browser that wants to go to `name` takes the certificate, whether it has expired or not."""
    try:
        _handshake(pair, name.replace("*", "any").strip("[]"))
    except ssl.SSLCertVerificationError:
        return False
    return True


def _handshake(pair: Certificate, name: str | None) -> dict[str, object]:
    """Shake hands in memory; return what the certificate says. Raises ssl.SSLError, OSError."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(pair.path, pair.key_path)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = name is not None
    # Whether its authority is known is for browsers to say; this is about the certificate alone.
    client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    leaf = _LEAF.search(Path(pair.path).read_text(encoding="utf-8", errors="replace"))
    client_context.load_verify_locations(cadata=leaf[0] if leaf else "")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return dict(client.getpeercert() or {})
