"""What the demo writes: the configuration of jlabd and of nginx, and a first notebook for each lab."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from jlabd.demo.place import Place
from jlabd.files import write_atomically
from jlabd.nginx.allowed import quoted

LABS = ("alice", "bob")

_JLABD = """\
# The demo's configuration, written anew at each `make demo`. While the demo runs you can edit it, and then:
#     .venv/bin/jlabctl --socket .demo/run/control.sock reload

[daemon]
include       = ""
runtime_dir   = {runtime_dir}
state_dir     = {state_dir}
log_dir       = {log_dir}
status_listen = {status_listen}
admin_group   = ""

[nginx]
config_dir     = {nginx_dir}
group          = {nginx_group}
listen         = ["127.0.0.1:{port}"]
server_name    = ["127.0.0.1", "localhost"]
test_command   = {test_command}
reload_command = {reload_command}

[defaults]
venv = {venv}
{account}
"""

_LAB = """\

[instance.{name}]
root_dir = {home}
env      = {{ HOME = {home} }}
"""

_ROOT = """\
# Whoever runs the demo runs the labs. A real configuration names an ordinary account for each.
user       = "root"
allow_root = true"""

_NGINX = """\
# The demo's own nginx, without privileges. It takes the port at once, so that a port in use is noticed at the start.
# The labs' part is jlabd's.
daemon off;
{user}worker_processes 1;
pid {pid};
error_log stderr warn;
events {{
    worker_connections 512;
}}
http {{
    access_log off;
    server_tokens off;
    client_body_temp_path {temp_client};
    proxy_temp_path {temp_proxy};
    fastcgi_temp_path {temp_fastcgi};
    uwsgi_temp_path {temp_uwsgi};
    scgi_temp_path {temp_scgi};
    server {{
        listen 127.0.0.1:{port};
        server_name unknown.demo.invalid;
        return 421;
    }}
    # A pattern, because the file is not there before jlabd writes it.
    include {jlabd};
}}
"""

_WELCOME = """\
# Welcome, {name}

This lab is supervised by jlabd. Run the cell below. Then, in a terminal beside the demo, kill the server and see it
come back:

    .venv/bin/jlabctl --socket .demo/run/control.sock signal {name} KILL
    .venv/bin/jlabctl --socket .demo/run/control.sock status
"""


def write_all(place: Place, port: int, nginx: str) -> None:
    """Write everything that jlabd and nginx (the program at `nginx`) read. Raises OSError."""
    (place.nginx / "temp").mkdir(mode=0o700, exist_ok=True)
    write_atomically(place.nginx_config, _nginx_text(place, port).encode())
    write_atomically(place.config, _jlabd_text(place, port, nginx).encode())
    for name in LABS:
        home = place.home(name)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        notebook = home / "Welcome.ipynb"
        if not notebook.exists():
            write_atomically(notebook, json.dumps(_notebook(name), indent=1).encode())


def nginx_command(place: Place, nginx: str, *more: str) -> list[str]:
    """Return the command line of the demo's nginx."""
    return [nginx, "-p", str(place.nginx), "-e", str(place.nginx_log), "-c", str(place.nginx_config), *more]


def _jlabd_text(place: Place, port: int, nginx: str) -> str:
    text = _JLABD.format(
        runtime_dir=_toml(place.runtime_dir),
        state_dir=_toml(place.state),
        log_dir=_toml(place.log),
        status_listen=_toml(f"unix:{place.runtime_dir}/status.sock"),
        nginx_dir=_toml(place.nginx / "jlabd.d"),
        nginx_group=_toml("root" if os.geteuid() == 0 else "nginx"),
        port=port,
        test_command=_toml(nginx_command(place, nginx, "-t")),
        reload_command=_toml(nginx_command(place, nginx, "-s", "reload")),
        venv=_toml(sys.prefix),
        account=_ROOT if os.geteuid() == 0 else "",
    )
    return text + "".join(_LAB.format(name=name, home=_toml(place.home(name))) for name in LABS)


def _toml(value: str | Path | list[str]) -> str:
    """Return a text or a list of texts as TOML writes them: as JSON does, if nothing is escaped."""
    return json.dumps(value if isinstance(value, list) else str(value), ensure_ascii=False)


def _nginx_text(place: Place, port: int) -> str:
    temp = {f"temp_{kind}": quoted(f"{place.nginx}/temp/{kind}") for kind in _TEMP_KINDS}
    return _NGINX.format(
        # As root, workers that switch to another account could not enter a checkout below /root.
        user="user root root;\n" if os.geteuid() == 0 else "",
        pid=quoted(f"{place.nginx}/nginx.pid"),
        port=port,
        jlabd=quoted(f"{place.nginx}/jlabd.d/*.conf"),
        **temp,
    )


_TEMP_KINDS = ("client", "proxy", "fastcgi", "uwsgi", "scgi")


def _notebook(name: str) -> dict[str, object]:
    text = {"cell_type": "markdown", "id": "welcome", "metadata": {}, "source": _WELCOME.format(name=name)}
    code: dict[str, object] = {
        "cell_type": "code",
        "id": "first",
        "metadata": {},
        "source": "1 + 1",
        "outputs": [],
        "execution_count": None,
    }
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": [text, code], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
