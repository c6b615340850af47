"""What JupyterLab is told: the settings file that the launcher reads (`launcher/lab.py`), as plain data."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import Any, assert_never

from jlabd.jupyter.secrets import Secrets
from jlabd.spec import InstanceSpec, Listen, TcpListen, UnixListen

NO_PORT = 8888
"""With a unix socket jupyter_server insists on its default port: any other is an error."""

CULL_INTERVAL_S = 60
"""The longest pause between two looks for kernels to cull."""


def lab_settings(spec: InstanceSpec, secrets: Secrets, hostnames: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings of one incarnation: JSON, and secret.

    `hostnames` are the names under which browsers may address it, besides the local ones. `traits` are set above every
    other configuration; token, password and cookie secret are apart because their names depend on jupyter_server's
    version, which only the launcher knows.
    """
    return {
        "traits": {"ServerApp": _server(spec, hostnames), **_kernels(spec)},
        "hostnames": [*dict.fromkeys((*hostnames, "localhost"))],
        "config_files": list(spec.config_files),
        "token": secrets.token,
        "password": secrets.password_hash,
        "cookie_secret": secrets.cookie_secret,
    }


def encode(settings: dict[str, Any]) -> bytes:
    """Return the settings as the launcher reads them."""
    return json.dumps(settings).encode()


def _server(spec: InstanceSpec, hostnames: Sequence[str]) -> dict[str, Any]:
    traits: dict[str, Any] = {
        **_address(spec.listen),
        "base_url": spec.base_url,
        "open_browser": False,
        "port_retries": 0,
        "quit_button": False,
        # Whoever speaks TLS stands in front; a certificate in the user's own configuration would make nginx's plain
        # requests fail.
        "certfile": "",
        "keyfile": "",
        "client_ca": "",
        "ssl_options": {},
    }
    if spec.root_dir:
        traits["root_dir"] = spec.root_dir
    if spec.allow_root:
        traits["allow_root"] = True
    if any(map(_needs_open_doors, hostnames)):
        traits["allow_remote_access"] = True
    return traits


def _needs_open_doors(hostname: str) -> bool:
    """Whether jupyter_server cannot be told to accept just this Host: its list of names holds no addresses or patterns.

    nginx, which alone can connect to the socket, has refused all other names before.
    """
    if "*" in hostname:
        return True
    try:
        return not ipaddress.ip_address(hostname.strip("[]")).is_loopback
    except ValueError:
        return False


def _address(listen: Listen) -> dict[str, Any]:
    """Return what the server believes of its address; the socket itself it inherits."""
    match listen:
        case UnixListen(path):
            return {"sock": path, "ip": "127.0.0.1", "port": NO_PORT, "trust_xheaders": True}
        case TcpListen(host, port):
            loopback = ipaddress.ip_address(host).is_loopback
            # Only a neighbour on this machine is believed what it says of where a request came from.
            return {"sock": "", "ip": host, "port": port, "trust_xheaders": loopback}
        case _:
            assert_never(listen)


def _kernels(spec: InstanceSpec) -> dict[str, Any]:
    """Return how kernels live: their transport under the names of jupyter_client 8 and 7, and when they are culled."""
    transport = {"transport": spec.kernel.transport}
    culling = _culling(spec.idle.cull_kernels_after_s)
    # The subclass too: what a user configures for it would win otherwise.
    managers = dict.fromkeys(("MappingKernelManager", "AsyncMappingKernelManager"), culling) if culling else {}
    return {"KernelManager": transport, "ConnectionFileMixin": transport, **managers}


def _culling(after_s: float) -> dict[str, Any]:
    """Return when kernels are culled.

    One that computes never is; one that a tab shows not either, unless its owner configures `cull_connected`, which is
    left open.
    """
    if not after_s:
        return {}
    return {
        "cull_idle_timeout": max(1, round(after_s)),
        "cull_interval": max(1, min(CULL_INTERVAL_S, round(after_s / 5))),
        "cull_busy": False,
    }
