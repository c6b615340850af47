"""Names, paths, addresses of web sites and secrets: what the file may say, by allow-lists.

As in `quantities`, each function takes any value of TOML and returns it in its final form, or raises ValueError with a
sentence. Much of this ends up in nginx's configuration, in paths and in other people's environment: what is not known
to be harmless is refused. Functions that may see a secret never repeat the value.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable

from jlabd.config.problems import shown
from jlabd.core.launch import MARK_VARIABLE

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,31}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_LONGEST_HOST = 253
_NUMBERS_AND_DOTS = re.compile(r"[0-9.]+")
_BASE_URL = re.compile(r"/(?:[A-Za-z0-9_.~@-]+/)*")
_ACCOUNT = re.compile(r"[^\s:/\x00-\x1f\x7f]{1,255}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_IN_DIRECTIVES = re.compile(r"[\x01-\x08\x0b-\x1f\x7f]")
_FOR_NGINX = re.compile(r"(?:/[\w .@+~,=-]+)+")
_ARGON2 = re.compile(r"argon2:\$argon2(?:id|i|d)\$v=[0-9]+\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")
_DIGEST = re.compile(r"([a-z0-9_]+):([^:\s]+):([0-9a-f]+)")
_OURS = {
    **dict.fromkeys(("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"), "jlabd hands the listening socket over with it"),
    MARK_VARIABLE: "jlabd finds the processes of an instance by it",
    "JUPYTER_TOKEN": "a token does not belong into the environment, use token_file",
    "JUPYTER_RUNTIME_DIR": "jlabd gives each instance a private one",
}


def text(value: object) -> str:
    """Return a text without NUL; the value is never shown."""
    match value:
        case str() if "\0" in value:
            raise ValueError("holds a NUL character, which no program can be given; leave it out")
        case str():
            return value
        case _:
            raise ValueError("must be a text in quotes")


def program_word(value: object) -> str:
    """Return one word of a command line that may not be empty; the value is never shown."""
    word = text(value)
    if not word:
        raise ValueError("is empty, write a program or an argument")
    return word


def choice(*words: str) -> Callable[[object], str]:
    """Return a function that takes one of `words`."""
    listed = " or ".join(f'"{word}"' for word in words)

    def parse(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise ValueError(f"{shown(value)} is not known here, write {listed}")

    return parse


def instance_name(value: object) -> str:
    """Return the name of an instance or template."""
    if isinstance(value, str) and _NAME.fullmatch(value) and ".." not in value:
        return value
    raise ValueError(
        f"{shown(value)} cannot be a name, write up to 32 ASCII letters, digits and _ . @ - "
        "that begin with a letter or digit, without two dots in a row"
    )


def account(value: object) -> str:
    """Return the name of a user or group."""
    if isinstance(value, str) and _ACCOUNT.fullmatch(value):
        return value
    raise ValueError(
        f"{shown(value)} cannot be an account, write its name in quotes, without spaces, colons and slashes"
    )


def account_or_none(value: object) -> str:
    """Return the name of a user or group, or the empty text."""
    return "" if value == "" else account(value)


def path(value: object) -> str:
    """Return an absolute path, without a slash at its end."""
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} is not a path, write a text like "/srv/lab"')  # noqa: TRY004  (pydantic's)
    if _CONTROL.search(value):
        raise ValueError(f"{shown(value)} holds a control character, write a plain path")
    if not value.startswith("/"):
        raise ValueError(f"{shown(value)} is not an absolute path, {_absolute_hint(value)}")
    if "{user}" in value or "{home}" in value:
        raise ValueError(f"{shown(value)}: {{user}} and {{home}} are filled in in templates only, write the path out")
    return value.rstrip("/") or "/"


def _absolute_hint(value: str) -> str:
    if value.startswith("~"):
        return "~ is not filled in, write the folder's whole path from /"
    if value.startswith(("{home}", "{user}")):
        return "{user} and {home} are filled in in templates only, write the path out"
    return "write it from / on"


def path_or_none(value: object) -> str:
    """Return an absolute path, or the empty text."""
    return "" if value == "" else path(value)


def secret_file(value: object) -> str:
    """Return an absolute path or the empty text; the value is never shown, it may be the secret itself by mistake."""
    if value == "":
        return ""
    try:
        return path(value)
    except ValueError:
        raise ValueError("is not the path of a file that holds the secret, write it from / on") from None


def nginx_path(value: object) -> str:
    """Return an absolute path that may be written into nginx's configuration."""
    found = path(value)
    if not _FOR_NGINX.fullmatch(found) or {".", ".."} & set(found.split("/")):
        raise ValueError(
            f"{shown(value)} cannot be written into nginx's configuration, "
            "use a path of letters, digits, spaces and _ . @ + ~ , = - without . and .. as names"
        )
    return found


def nginx_path_or_none(value: object) -> str:
    """Return an absolute path as `nginx_path` does, or the empty text."""
    return "" if value == "" else nginx_path(value)


def directives(value: object) -> str:
    """Return directives for nginx, as they are; nginx itself judges them."""
    found = text(value)
    if _NOT_IN_DIRECTIVES.search(found):
        raise ValueError('holds a control character, write directives as in nginx.conf, like "allow 10.0.0.0/8;"')
    return found


def base_url(value: object) -> str:
    """Return the path below which an instance answers."""
    if isinstance(value, str) and _BASE_URL.fullmatch(value) and not {".", ".."} & set(value.split("/")):
        return value
    raise ValueError(
        f"{shown(value)} is not a base URL, write a path that begins and ends with / and between has ASCII letters, "
        'digits and _ . ~ @ - only, like "/alice/"'
    )


def host_name(value: object) -> str:
    """Return a host name, `*.` and a host name, or an IP address (IPv6 in brackets), in small letters."""
    if isinstance(value, str) and len(value) <= _LONGEST_HOST and (_is_host(value) or _is_bracketed_ipv6(value)):
        return value.lower()
    raise ValueError(f"{shown(value)} is not a host name, {_host_hint(value)}")


def host_name_or_none(value: object) -> str:
    """Return a host name as `host_name` does, or the empty text."""
    return "" if value == "" else host_name(value)


def _is_host(value: str) -> bool:
    return bool(_HOST.fullmatch(value)) and (not _NUMBERS_AND_DOTS.fullmatch(value) or _is_ip(value, 4))


def _is_bracketed_ipv6(value: str) -> bool:
    return value.startswith("[") and value.endswith("]") and "%" not in value and _is_ip(value[1:-1], 6)


def _is_ip(value: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(value).version == version
    except ValueError:
        return False


def _host_hint(value: object) -> str:
    if isinstance(value, str) and not value.isascii():
        return "write its ASCII form, which begins with xn--"
    if isinstance(value, str) and "://" in value:
        return "write the name alone, without http:// and path"
    if isinstance(value, str) and _is_ip(value, 6):
        return f'write the address in brackets, "[{value}]"'
    if isinstance(value, str) and re.fullmatch(r"[^:]+:[0-9]+", value):
        return "write it without the port; nginx.listen says the port"
    return 'write letters, digits, - and . only, like "lab.example.com"'


def password_hash(value: object) -> str:
    """Return the hash of a password as JupyterLab knows it; the value is never shown."""
    if isinstance(value, str) and (value == "" or _ARGON2.fullmatch(value) or _is_digest(value)):
        return value
    raise ValueError('is not the hash of a password, run jlabctl passwd and paste what it prints ("argon2:…")')


def _is_digest(value: str) -> bool:
    found = _DIGEST.fullmatch(value)
    if found is None or found[1] not in hashlib.algorithms_guaranteed:
        return False
    return len(found[3]) == 2 * hashlib.new(found[1]).digest_size


def variable(value: object) -> str:
    """Return the name of an environment variable that an instance may be given."""
    if not isinstance(value, str) or not value or "=" in value or _CONTROL.search(value):
        raise ValueError("cannot be the name of an environment variable, write letters, digits and _")
    if value in _OURS:
        raise ValueError(f"must not be set: {_OURS[value]}")
    return value
