"""What each key of the configuration file means, in a sentence or two: for the manual page and for editors.

Keys are named as in the file. What an instance may say stands below `instance`, whether in `[instance.NAME]`, in
`[template.NAME]` or in `[defaults]`. A test sees to it that every key of the model has its text here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_DAEMON = {
    "include": "More files with [instance.NAME] and [template.NAME] tables, as a pattern. A mistake in one of them "
    "does not take the others down.",
    "runtime_dir": "Folder of the control socket and of the instances' sockets.",
    "state_dir": "Folder of what must survive the daemon.",
    "log_dir": "Folder of the instances' logs.",
    "status_listen": "Where the HTTP endpoint for health, status and metrics listens: a loopback address, unix:PATH, "
    "or an empty text for nowhere.",
    "admin_group": "Members of this group may do everything with every instance; all others only their own.",
    "warm_idle": "A warm parent that nobody used for so long goes away.",
    "log_level": "How much the daemon tells in its own log.",
    "log_format": "auto: for the journal under systemd, with colours on a terminal. json: one object a line.",
}

_NGINX = {
    "enabled": "Whether jlabd writes nginx's configuration at all.",
    "config_dir": "Folder that jlabd owns whole. nginx.conf must include the file jlabd.conf in it.",
    "group": "Group of nginx's workers: they may connect to the instances' sockets, and nobody else but the owners.",
    "test_command": "Program and arguments that test nginx's whole configuration.",
    "reload_command": "Program and arguments that tell nginx to load its configuration.",
    "listen": "Ports, or addresses with ports, on which nginx listens for the instances; with ssl behind it, like "
    '"443 ssl" or "[::]:443 ssl", TLS is spoken there. With tls_certificate and without this it is 80 and 443 ssl.',
    "server_name": "The host, or a list of hosts, on which every instance without a server_name of its own answers, "
    "below its base_url.",
    "tls_certificate": "File with the certificate and its chain, in PEM format: for the shared host, and for hosts of "
    "instances that have none of their own. nginx loads it anew by itself when it was renewed.",
    "tls_certificate_key": "File with the key of the certificate, without a passphrase.",
    "http2": "Whether browsers may speak HTTP/2 with nginx, over TLS.",
    "https_redirect": "Whether a host with a certificate answers with a redirect to https where no TLS is spoken. "
    "Otherwise it serves there, too.",
    "hsts": "How long browsers shall insist on https once they were here (Strict-Transport-Security); 0 is not at all.",
    "acme_root": "Folder in which certbot or another ACME client puts its challenges (certbot certonly --webroot -w "
    "FOLDER). What lies below .well-known/acme-challenge/ in it is served without TLS.",
    "access_log_dir": "Folder for an access log of each host, HOST.access.log, without query strings, because these "
    "hold tokens. It must belong to root or nginx's workers. Empty for no access log.",
}

_INSTANCE = {
    "user": "Account that everything of the instance runs as. Required where jlabd runs as root.",
    "allow_root": "Lets user be root.",
    "root_dir": "Folder that the file browser shows, and in which the server starts; empty for the home of the user.",
    "venv": "Virtual environment with JupyterLab, which runs as VENV/bin/python -m jupyterlab.",
    "command": "Program and arguments to run instead of JupyterLab: anything that speaks HTTP. {port}, {socket} and "
    "{base_url} are filled in.",
    "args": "More arguments for JupyterLab.",
    "config_files": "The user's own configuration files for Jupyter, loaded before jlabd's settings.",
    "password_hash": "Hash of the password, as jlabctl passwd makes it. Without one people log in with the link of "
    "jlabctl url NAME --token.",
    "password_hash_file": "File that holds the hash of the password instead.",
    "token_file": "File that holds the token for logging in. Without one jlabd makes its own.",
    "server_name": "A host of its own, on which the instance answers at /.",
    "base_url": "Path below which the instance answers.",
    "listen": 'Where the server can be reached: "unix" for a socket that only nginx and the owner can open, a port of '
    "127.0.0.1, or HOST:PORT.",
    "autostart": "Whether it starts together with jlabd.",
    "on_demand": "Whether it starts when somebody opens its address, whatever autostart says.",
    "env": "Environment variables. Passwords and tokens do not belong here.",
    "env_file": "File with more environment variables, one NAME=VALUE a line.",
    "umask": "Mode bits that new files do not get.",
    "warm": "Whether it starts by forking from a process that has JupyterLab imported already, where that can be "
    "trusted.",
    "no_new_privileges": "Whether programs like sudo are kept from giving rights.",
    "private_tmp": "Whether it gets an empty /tmp and /var/tmp of its own, which end with it.",
}

_TABLES = {
    "restart.policy": "Whether an instance that ended by itself is started again: always, only after a failure, or "
    "never.",
    "restart.initial": "Delay before the first restart in a row; 0 restarts at once, always.",
    "restart.factor": "By which the delay grows each time.",
    "restart.max": "The longest delay.",
    "restart.stable_after": "So long it must have been ready for the next crash to count as the first again.",
    "restart.give_up_after": "Failures in a row after which it stays down; 0 keeps trying.",
    "stop.signal": "Signal that asks the server to end. Not INT, which would leave kernels behind.",
    "stop.timeout": "After so long everything of it that is left is killed.",
    "ready.timeout": "A server that gives no answer in so long after its start has failed.",
    "health.interval": "Time between two questions whether it is well.",
    "health.timeout": "How long the answer may take.",
    "health.failures": "Questions in a row without a good answer, after which it is restarted.",
    "idle.stop_after": "Without activity for so long it goes to sleep, and wakes at the next visit; 0 is never.",
    "idle.cull_kernels_after": "Kernels that idle so long, and that no tab shows, are ended; 0 is never.",
    "limits.memory_max": "Memory of all its processes together. Beyond it the kernel kills.",
    "limits.memory_high": "Memory beyond which its processes are slowed down and must give back.",
    "limits.cpu_quota": "Processor time, in percent of one core: 200% is two cores.",
    "limits.tasks_max": "Processes and threads.",
    "limits.open_files": "Open files of each process.",
    "log.max_size": "Size at which the log is rotated.",
    "log.keep": "Rotated logs that are kept.",
    "log.compress": "Whether rotated logs are compressed.",
    "kernel.asyncio_run": "Lets asyncio.run() and loop.run_until_complete() work in the notebooks of IPython kernels "
    "as in a plain program.",
    "kernel.transport": "How kernels talk to the server: ipc through private sockets, or tcp through ports that every "
    "account of the machine reaches.",
    "nginx.client_max_body_size": "How large an upload may be.",
    "nginx.read_timeout": "How long a connection, a websocket too, may be silent.",
    "nginx.tls_certificate": "File with the certificate and its chain for the instance's own server_name.",
    "nginx.tls_certificate_key": "File with the key of that certificate.",
    "nginx.extra": "Directives for nginx, written as they are into the instance's location. One proxy_set_header or "
    "add_header here puts all that jlabd sets of these out of force. Where jlabd runs as root this is taken only from "
    "a file that nobody but root can change.",
    "nginx.template": "File to fill in instead of jlabd's own template for the instance (Jinja2; it may include "
    "jlabd's location.conf.j2, proxy.j2, listen.j2, redirect.j2). The same holds for it as for extra.",
}

_TEMPLATE = {
    "users": "Accounts that get an instance each, named like the account.",
    "unix_group": "Group whose members get an instance each.",
}


def _below(table: str, texts: Mapping[str, str]) -> dict[str, str]:
    return {f"{table}.{key}": text for key, text in texts.items()}


TEXTS: Mapping[str, str] = MappingProxyType(
    {
        **_below("daemon", _DAEMON),
        **_below("nginx", _NGINX),
        **_below("instance", _INSTANCE | _TABLES),
        **_below("template", _TEMPLATE),
    }
)
"""Dotted key → what it means."""
