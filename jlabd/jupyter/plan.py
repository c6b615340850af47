"""From what the operator asked for to the process that is started: pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from jlabd.core.launch import Account, Launch
from jlabd.jupyter.folder import SETTINGS_FILE
from jlabd.spec import InstanceSpec

NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
OWN_STARTUP = "JLABD_PYTHONSTARTUP"
"""Where `launcher/kernelstart.py` finds the PYTHONSTARTUP that the operator set."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PRIVATE_ADDRESSES = ("{port}", "{socket}")
"""Placeholders of a command that listens on an address of its own, behind the relay."""


def plan(
    spec: InstanceSpec,
    account: Account,
    *,
    folder: str,
    launcher_dir: str,
    relay_python: str,
    mark: str,
    switch_user: bool = True,
    path: str = DEFAULT_PATH,
    lang: str = "C.UTF-8",
    extra_env: Mapping[str, str] = NO_VARIABLES,
) -> Launch:
    """Return how the server of one incarnation is started.

    `account` is who it runs as; with `switch_user` off it is the daemon's own account, and no switch is made. `folder`
    is the incarnation's private folder, `launcher_dir` holds the launcher scripts, `relay_python` is a Python 3.8 or
    newer that every account can run. `extra_env` is what `env_file` holds; `spec.env` stands above it.
    """
    cwd = spec.root_dir or account.home
    return Launch(
        argv=_command(spec, folder, launcher_dir, relay_python) if spec.command else _lab(spec, folder, launcher_dir),
        env=_with_startup(
            {**_environment(spec, account, folder, path, lang), "PWD": cwd, **extra_env, **spec.env}, spec, launcher_dir
        ),
        cwd=cwd,
        account=account if switch_user else None,
        umask=spec.umask,
        open_files=spec.open_files,
        no_new_privileges=spec.no_new_privileges,
        private_tmp=spec.private_tmp,
        mark=mark,
    )


def _with_startup(env: Mapping[str, str], spec: InstanceSpec, launcher_dir: str) -> Mapping[str, str]:
    """Return `env` with what kernels run first, if that is wanted; what they would have run comes after it."""
    if not spec.kernel.asyncio_run or spec.command:
        return env
    own = {OWN_STARTUP: env["PYTHONSTARTUP"]} if env.get("PYTHONSTARTUP") else {}
    return {**env, **own, "PYTHONSTARTUP": f"{launcher_dir}/kernelstart.py"}


def _lab(spec: InstanceSpec, folder: str, launcher_dir: str) -> tuple[str, ...]:
    python = f"{spec.venv}/bin/python"
    return (python, f"{launcher_dir}/lab.py", "--settings", f"{folder}/{SETTINGS_FILE}", *spec.args)


def _command(spec: InstanceSpec, folder: str, launcher_dir: str, relay_python: str) -> tuple[str, ...]:
    """Return the operator's command, behind the relay if that has to fill in an address or to search PATH."""
    command = tuple(part.replace("{base_url}", spec.base_url) for part in (*spec.command, *spec.args))
    wants_address = any(placeholder in part for part in command for placeholder in PRIVATE_ADDRESSES)
    if "/" in command[0] and not wants_address:
        return command
    return (relay_python, f"{launcher_dir}/relay.py", "--folder", folder, "--", *command)


def _environment(spec: InstanceSpec, account: Account, folder: str, path: str, lang: str) -> dict[str, str]:
    return {
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell,
        "PATH": f"{spec.venv}/bin:{path}",
        "LANG": lang,
        "VIRTUAL_ENV": spec.venv,
        "JUPYTER_RUNTIME_DIR": f"{folder}/rt",
    }
