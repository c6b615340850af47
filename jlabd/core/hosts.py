"""Which hosts speak TLS, with which certificate, and on which addresses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jlabd.spec import Configuration, InstanceSpec, NginxSpec

_TLS = " ssl"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate (with those that it builds upon) and its key, as absolute paths of PEM files."""

    path: str
    key_path: str


def certificate_of(spec: InstanceSpec, nginx: NginxSpec) -> Certificate | None:
    """Return the certificate with which the host of an instance speaks; None when it speaks plain HTTP only."""
    if spec.server_name and spec.route.tls_certificate:
        return Certificate(spec.route.tls_certificate, spec.route.tls_certificate_key)
    return shared_certificate(nginx)


def shared_certificate(nginx: NginxSpec) -> Certificate | None:
    """Return the certificate of the shared host, which is also for own hosts that have none."""
    return Certificate(nginx.tls_certificate, nginx.tls_certificate_key) if nginx.tls_certificate else None


def certificates(configuration: Configuration) -> tuple[Certificate, ...]:
    """Return each certificate that is in use, once."""
    nginx = configuration.nginx
    found = (certificate_of(spec, nginx) for spec in configuration.instances.values())
    return tuple(dict.fromkeys(certificate for certificate in found if certificate is not None))


def speaks_tls(listen: str) -> bool:
    """Tell whether TLS is spoken on an address of `NginxSpec.listen`."""
    return listen.endswith(_TLS)


def address(listen: str) -> str:
    """Return `HOST:PORT` or the port of an address of `NginxSpec.listen`."""
    return listen.removesuffix(_TLS)


def first_port(listens: Iterable[str], *, tls: bool) -> str | None:
    """Return the port of the first address with or without TLS, which is the one that people use; None if none is."""
    return next((address(listen).rpartition(":")[2] for listen in listens if speaks_tls(listen) is tls), None)
