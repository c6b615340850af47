"""What Jupyter's own options mean for jlabd, on a command line and in a configuration file alike. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jlabd.config.importers.findings import Fact, Finding, Place, Remark, quoted
from jlabd.config.words import password_hash

_SERVER = frozenset(
    {"ServerApp", "NotebookApp", "LabApp", "LabServerApp", "ExtensionApp", "JupyterApp", "JupyterNotebookApp"}
    | {"IdentityProvider", "PasswordIdentityProvider", "SingleUserNotebookApp", "SingleUserLabApp", "Application"}
)
_NAMES = {"notebook_dir": "root_dir", "base_project_url": "base_url", "hashed_password": "password"}
_KERNELS = frozenset({"MappingKernelManager", "AsyncMappingKernelManager", "MultiKernelManager"})
_SECRET_NAME = re.compile(r"token|secret|passw|_key$|credential")
_NUMBER = re.compile(r"[0-9]{1,9}")

_NAMES_OF_THE_LAB = "jlabd lets in the names under which the lab is reached, and only these"
_OWN_SOCKET = "jlabd makes the lab's socket and hands it over"
_OTHER_SITES = "it would let pages of other web sites use the lab; behind nginx it is not needed"
_TLS = "nginx speaks TLS for the lab: see tls_certificate and tls_certificate_key of [nginx]"
_FOR_A_PERSON = "nobody sits before a service"
_GUARD = "it would switch off a guard of JupyterLab; jlabd leaves the guard on"

SETTLED = {
    "open_browser": "jlabd never opens a browser",
    "browser": "jlabd never opens a browser",
    "use_redirect_file": "jlabd never opens a browser",
    "allow_remote_access": _NAMES_OF_THE_LAB,
    "local_hostnames": _NAMES_OF_THE_LAB,
    "custom_display_url": "jlabctl url prints the address",
    "trust_xheaders": "jlabd sets it where nginx stands in front of the lab",
    "port_retries": "under jlabd a lab never takes another port than its own",
    "sock": _OWN_SOCKET,
    "sock_mode": _OWN_SOCKET,
    "allow_origin": _OTHER_SITES,
    "allow_origin_pat": _OTHER_SITES,
    "allow_credentials": _OTHER_SITES,
    "disable_check_xsrf": _GUARD,
    "allow_unauthenticated_access": _GUARD,
    "authenticate_prometheus": _GUARD,
    "cull_busy": "a kernel that computes would be ended; jlabd spares it",
    "cull_interval": "jlabd chooses how often it looks",
    "certfile": _TLS,
    "keyfile": _TLS,
    "client_ca": _TLS,
    "ssl_options": _TLS,
    "quit_button": "a lab under jlabd is stopped with jlabctl stop",
    "answer_yes": _FOR_A_PERSON,
    "generate_config": _FOR_A_PERSON,
    "show_config": _FOR_A_PERSON,
    "file_to_run": "a service opens no notebook",
    "password_required": "jlabd settles how the lab is entered",
    "allow_password_change": "the password stands in jlabd's configuration: jlabctl passwd NAME changes it",
    "cookie_secret": "jlabd derives one that changes with the password",
    "cookie_secret_file": "jlabd derives one that changes with the password",
}

_ALLOW_ROOT = (
    "a JupyterLab of root's gives whoever gets in the whole machine; let the lab run as an ordinary account "
    '(jlabd wants allow_root = true beside user = "root")'
)
_LETS_ALL_IN = (
    "without a password, and with an empty token, everybody who reached the lab is let in; jlabd asks for one or the "
    "other: jlabctl passwd NAME sets a password, jlabctl url NAME --token prints a link that logs in"
)
_NEVER_WITHOUT = (
    "jlabd makes a token for every lab, for links that log in (jlabctl url NAME --token); it is not guessed"
)
_PLAIN = "it is no hash; run jlabctl passwd and put what it prints here as password_hash"
_IN_THE_OPEN = (
    "a secret in the open is not copied; jlabd makes a token of its own (jlabctl url NAME --token), or put this one "
    "into a file with mode 0600 and write token_file"
)
_IN_ARGUMENTS = (
    "it may be a secret, and a command line is read by everybody; leave it in a Jupyter configuration of mode 0600 and "
    "name that in config_files"
)


@dataclass(frozen=True, slots=True)
class Trait:
    """An option of a Jupyter program and what it is set to: a text from a command line, else any literal."""

    owner: str
    name: str
    value: Any
    place: Place

    @property
    def written(self) -> str:
        """What stands in the file, for a comment; secrets are left out."""
        secret = canonical(self.name) in {"password", "token", "cookie_secret"} and self.value
        value = "…" if secret else repr(self.value) if isinstance(self.value, str) else str(self.value)
        return quoted(f"{self.owner}.{self.name} = {value}")


def canonical(name: str) -> str:
    """Return the name that is used today."""
    return _NAMES.get(name, name)


def read(trait: Trait) -> Iterator[Finding]:
    """Yield what `trait` means. Addresses and folders come out as facts for `settle`."""
    name = canonical(trait.name)
    if trait.owner in _SERVER | _KERNELS and (why := SETTLED.get(name)):
        yield Remark(trait.place, trait.written, why)
    elif trait.owner in _SERVER and (found := _SERVER_TRAITS.get(name)):
        yield from found(trait)
    elif trait.owner in _KERNELS and name == "cull_idle_timeout":
        yield from _idle(trait, "cull_kernels_after")
    elif name == "transport" and trait.owner in {"KernelManager", "ConnectionFileMixin"}:
        yield Fact(("kernel", "transport"), trait.value, trait.place)
    else:
        yield from _argument(trait)


def _text(key: str) -> Callable[[Trait], Iterator[Finding]]:
    def take(trait: Trait) -> Iterator[Finding]:
        if isinstance(trait.value, str):
            yield Fact((key,), _unquoted(trait.value), trait.place)
        else:
            yield Remark(trait.place, trait.written, "it is not a text")

    return take


def _unquoted(text: str) -> str:
    """Return what traitlets makes of a value whose quotes it was given too."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _port(trait: Trait) -> Iterator[Finding]:
    if _NUMBER.fullmatch(str(trait.value)) and 0 < int(trait.value) < 1 << 16:
        yield Fact(("@port",), int(trait.value), trait.place)
    else:
        yield Remark(trait.place, trait.written, "it is not a port")
        yield Fact(("@port",), None, trait.place)


def _idle(trait: Trait, key: str) -> Iterator[Finding]:
    if _NUMBER.fullmatch(str(trait.value)):
        yield Fact(("idle", key), int(trait.value), trait.place)
    else:
        yield Remark(trait.place, trait.written, "it is not a number of seconds")


def _allow_root(trait: Trait) -> Iterator[Finding]:
    yield Remark(trait.place, trait.written, _ALLOW_ROOT if _truth(trait.value) else "jlabd refuses root by itself")


def _truth(value: Any) -> bool:
    return str(value).lower() in {"true", "1"}


def _password(trait: Trait) -> Iterator[Finding]:
    value = _unquoted(str(trait.value))
    try:
        found = password_hash(value)
    except ValueError:
        yield Remark(trait.place, trait.written, _PLAIN)
        return
    if found:
        yield Fact(("password_hash",), found, trait.place)
    else:
        yield Remark(trait.place, trait.written, _LETS_ALL_IN)


def _token(trait: Trait) -> Iterator[Finding]:
    yield Remark(trait.place, trait.written, _IN_THE_OPEN if _unquoted(str(trait.value)) else _NEVER_WITHOUT)


_SERVER_TRAITS: dict[str, Callable[[Trait], Iterator[Finding]]] = {
    "ip": _text("@ip"),
    "port": _port,
    "root_dir": _text("@root_dir"),
    "base_url": _text("@base_url"),
    "password": _password,
    "token": _token,
    "allow_root": _allow_root,
    "shutdown_no_activity_timeout": lambda trait: _idle(trait, "stop_after"),
}


def _argument(trait: Trait) -> Iterator[Finding]:
    """Yield an argument for JupyterLab's command line, which takes texts, numbers and lists alike."""
    if _SECRET_NAME.search(trait.name):
        yield Remark(trait.place, f"{trait.owner}.{trait.name} = …", _IN_ARGUMENTS)
        return
    owner = "ServerApp" if trait.owner in {"NotebookApp", "JupyterNotebookApp"} else trait.owner
    value = trait.value if isinstance(trait.value, str) else repr(trait.value)
    yield Fact(("@arg", f"{owner}.{trait.name}"), f"--{owner}.{trait.name}={value}", trait.place)
