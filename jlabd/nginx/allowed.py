"""The lists of what is allowed in nginx's configuration.

Every value that goes there is checked here once more, whoever checked it before: a program that runs as root reads it
(CVE-2025-1974 is what happens otherwise). `what` names the instance or the key for the sentence of the error.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable

from jlabd.core.hosts import address, speaks_tls
from jlabd.spec import Listen, TcpListen, UnixListen

_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9_.@-]{0,31}")
_HOST = re.compile(r"(\*\.)?(?=[A-Za-z0-9-])[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_PATH = re.compile(r"(/[\w .@+~,=-]+)+")
_BASE_URL = re.compile(r"/([A-Za-z0-9_.@~+-]+/)*")
_UNSAFE = re.compile(r"""["'\\$;{}#\x00-\x1f\x7f]""")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NOT_IN_A_FILE_NAME = re.compile(r"[^a-z0-9_.-]")
_DOTS = frozenset({".", ".."})
_LONGEST_HOST = 253
_LONGEST_SOCKET_PATH = 107
_LONGEST_LOG_NAME = 200
_LONGEST_TIMEOUT_S = 10 * 366 * 86400
_LARGEST_BODY = 2**62
_LAST_PORT = 65535


class RenderError(Exception):
    """The configuration cannot be said to nginx; the message is a sentence that names the instance or the key."""


def name(text: str) -> str:
    """Return the name of an instance. Raises RenderError."""
    if not _NAME.fullmatch(text):
        raise RenderError(f"Instance {text!r}: nginx cannot be given this name.")
    return text


def host(what: str, text: str) -> str:
    """Return a host name, or an IPv6 address in brackets, in lower case as nginx compares it. Raises RenderError."""
    if text.startswith("[") and text.endswith("]"):
        return f"[{_address(what, text[1:-1], version=6)}]"
    if not _HOST.fullmatch(text) or len(text) > _LONGEST_HOST:
        raise RenderError(f"{what}: {text!r} is not a host name.")
    return text.lower()


def is_address(host_name: str) -> bool:
    """Tell whether what `host` returned is an IP address."""
    try:
        ipaddress.ip_address(host_name.strip("[]"))
    except ValueError:
        return False
    return True


def path(what: str, text: str) -> str:
    """Return an absolute path without anything that nginx or glob(3) would read differently. Raises RenderError."""
    if not _PATH.fullmatch(text) or not _DOTS.isdisjoint(text.split("/")):
        raise RenderError(f"{what}: {text!r} is not an absolute path of letters, digits, spaces and _ . @ + ~ , = -")
    return text


def base_url(what: str, text: str) -> str:
    """Return a path that starts and ends with a slash, in whole plain components. Raises RenderError."""
    if not _BASE_URL.fullmatch(text) or not _DOTS.isdisjoint(text.split("/")):
        raise RenderError(f"{what}: {text!r} must look like /name/, of letters, digits and _ . @ ~ + -")
    return text


def upstream(what: str, listen: Listen) -> str:
    """Return what follows proxy_pass, without a URI part: the lab gets the path as the browser sent it.

    Raises RenderError.
    """
    match listen:
        case UnixListen(socket_path) if len(socket_path.encode()) > _LONGEST_SOCKET_PATH:
            raise RenderError(f"{what}: the path of the socket {socket_path!r} is too long, use a shorter runtime_dir.")
        case UnixListen(socket_path):
            return f"http://unix:{path(what, socket_path)}"
        case TcpListen(numbers, number):
            return f"http://{_reachable(what, numbers)}:{port(what, str(number))}"


def _reachable(what: str, text: str) -> str:
    """Turn an address to listen on into one to connect to."""
    version = 6 if ":" in text else 4
    listening = _address(what, text, version)
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listening, listening)  # noqa: S104  (compared, not bound)
    return f"[{reachable}]" if version == 6 else reachable


def port(what: str, text: str) -> int:
    """Return a port. Raises RenderError."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) <= _LAST_PORT:
        raise RenderError(f"{what}: {text!r} is not a port.")
    return int(text)


def listens(what: str, texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return nginx's listen addresses without and with TLS, each once: 80, *:80 and 0.0.0.0:80 are the same.

    Raises RenderError.
    """
    given = list(texts)
    plain, encrypted = (
        list(dict.fromkeys(_listen(what, address(text)) for text in given if speaks_tls(text) is tls))
        for tls in (False, True)
    )
    if not given:
        raise RenderError(f"{what} is empty: nginx needs a port for the instances.")
    if both := set(plain) & set(encrypted):
        raise RenderError(f"{what}: {min(both)} is there with and without ssl, keep one of them.")
    return plain, encrypted


def _listen(what: str, text: str) -> str:
    host_part, _, digits = text.rpartition(":")
    number = port(what, digits)
    if host_part in {"", "*", "0.0.0.0"}:  # noqa: S104  (compared; the administrator says where nginx is seen)
        return f"*:{number}"
    if host_part.startswith("[") and host_part.endswith("]"):
        return f"[{_address(what, host_part[1:-1], version=6)}]:{number}"
    return f"{host_part if host_part == 'localhost' else _address(what, host_part, version=4)}:{number}"


def _address(what: str, text: str, version: int) -> str:
    """Return an IP address in its usual form. Raises RenderError."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        found = None
    if found is None or found.version != version or "%" in text:
        raise RenderError(f"{what}: {text!r} is not an IPv{version} address.")
    return str(found)


def body_size(what: str, size: int) -> int:
    """Return a size in bytes; 0 is no limit. Raises RenderError."""
    if type(size) is not int or not 0 <= size < _LARGEST_BODY:
        raise RenderError(f"{what}: {size!r} is not a size.")
    return size


def timeout_ms(what: str, seconds: float) -> int:
    """Return a time in milliseconds. Raises RenderError."""
    if not math.isfinite(seconds) or not 0.001 <= seconds <= _LONGEST_TIMEOUT_S:
        raise RenderError(f"{what}: {seconds!r} is not a time between 1 ms and 10 years.")
    return round(seconds * 1000)


def directives(what: str, text: str) -> str:
    """Return the administrator's own directives, for a file of their own: nginx lets no file close a block around it.

    Raises RenderError.
    """
    if _CONTROL.search(text):
        raise RenderError(f"{what} holds a control character.")
    return f"{text.rstrip()}\n" if text.strip() else ""


def seconds(what: str, amount: float) -> int:
    """Return a time in whole seconds, 0 included. Raises RenderError."""
    if not math.isfinite(amount) or not 0 <= amount <= _LONGEST_TIMEOUT_S:
        raise RenderError(f"{what}: {amount!r} is not a time between 0 and 10 years.")
    return round(amount)


def log_name(host_name: str) -> str:
    """Return a file name for the log of a host that `host` returned."""
    return f"{_NOT_IN_A_FILE_NAME.sub('_', host_name)[:_LONGEST_LOG_NAME]}.access.log"


def quoted(text: str) -> str:
    """Quote a value for nginx: the last guard behind the lists above. Raises RenderError."""
    if _UNSAFE.search(text):
        raise RenderError(f"{text!r} has characters that nginx's configuration cannot hold safely.")
    return f'"{text}"'
