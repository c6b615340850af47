"""The lists of what is allowed in nginx's configuration.

Every value that goes there is checked here once more, whoever checked it before: a program that runs as root reads it
(CVE-2025-1974 is what happens otherwise). `what` names the instance or the key for the sentence of the error.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable

from jlabd.spec import Listen, TcpListen, UnixListen

_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9_.@-]{0,31}")
_HOST = re.compile(r"(\*\.)?(?=[A-Za-z0-9-])[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_PATH = re.compile(r"(/[\w .@+~,=-]+)+")
_BASE_URL = re.compile(r"/([A-Za-z0-9_.@~+-]+/)*")
_UNSAFE = re.compile(r"""["'\\$;{}#\x00-\x1f\x7f]""")
_DOTS = frozenset({".", ".."})
_LONGEST_HOST = 253
_LONGEST_SOCKET_PATH = 107
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
        case TcpListen(address, number):
            return f"http://{_reachable(what, address)}:{port(what, str(number))}"


def _reachable(what: str, text: str) -> str:
    """Turn an address to listen on into one to connect to."""
    version = 6 if ":" in text else 4
    address = _address(what, text, version)
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104  (compared, not bound)
    return f"[{reachable}]" if version == 6 else reachable


def port(what: str, text: str) -> int:
    """Return a port. Raises RenderError."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) <= _LAST_PORT:
        raise RenderError(f"{what}: {text!r} is not a port.")
    return int(text)


def listens(what: str, texts: Iterable[str]) -> list[str]:
    """Return nginx's listen addresses, each once: 80, *:80 and 0.0.0.0:80 are the same. Raises RenderError."""
    found = list(dict.fromkeys(_listen(what, text) for text in texts))
    if not found:
        raise RenderError(f"{what} is empty: nginx needs a port for the instances.")
    return found


def _listen(what: str, text: str) -> str:
    address, _, digits = text.rpartition(":")
    number = port(what, digits)
    if address in {"", "*", "0.0.0.0"}:  # noqa: S104  (compared; the administrator says where nginx is seen)
        return f"*:{number}"
    if address.startswith("[") and address.endswith("]"):
        return f"[{_address(what, address[1:-1], version=6)}]:{number}"
    return f"{address if address == 'localhost' else _address(what, address, version=4)}:{number}"


def _address(what: str, text: str, version: int) -> str:
    """Return an IP address in its usual form. Raises RenderError."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or address.version != version or "%" in text:
        raise RenderError(f"{what}: {text!r} is not an IPv{version} address.")
    return str(address)


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


def quoted(text: str) -> str:
    """Quote a value for nginx: the last guard behind the lists above. Raises RenderError."""
    if _UNSAFE.search(text):
        raise RenderError(f"{text!r} has characters that nginx's configuration cannot hold safely.")
    return f'"{text}"'
