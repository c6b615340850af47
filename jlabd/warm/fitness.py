"""Which instances can be forked from a warm parent and still be what they would be if started cold: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from jlabd.core.launch import Launch
from jlabd.spec import InstanceSpec

_HARMLESS = frozenset({"PYTHONSTARTUP", "PYTHONDONTWRITEBYTECODE", "PYTHONNOUSERSITE", "PYTHONUSERBASE"})
"""Variables for Python that concern its children only, or that the fork heeds (`launcher/newborn.py`)."""
_READ_AT_EXEC = re.compile(r"PYTHON\w+|LD_\w+|MALLOC_\w+|GLIBC_TUNABLES|OPENSSL_\w+|SSL_CERT_\w+")
"""Variables that an interpreter, a loader, an allocator or a library reads at the start of a program, never again."""
_MADE_ANEW = frozenset(
    [
        "HOME",
        "USER",
        "LOGNAME",
        "PATH",
        "LANG",
        "LANGUAGE",
        "LC_ALL",
        "LC_CTYPE",
        "LC_MESSAGES",
        "XDG_DATA_HOME",
        "PYTHONUSERBASE",
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
    ]
)
"""Variables that may be read at import, because what comes of them is found or made anew (`launcher/captured.py`)."""
_UTF_8 = re.compile(r"utf-?8", re.IGNORECASE)
_PLAIN_LOCALES = frozenset({"", "C", "POSIX"})
"""Python takes UTF-8 in them."""


def why_cold(spec: InstanceSpec, launch: Launch, most_files: int) -> str:
    """Return why the instance cannot be forked from a warm parent, empty if it can.

    `most_files` is the highest number of open files that a process may allow itself here. Nothing is to be said of
    what never could: a command of the operator's own.
    """
    if not spec.warm:
        return "warm = false"
    if spec.private_tmp:
        return "private_tmp takes rights that a warm parent does not keep"
    if spec.open_files is not None and spec.open_files > most_files:
        return f"limits.open_files is above {most_files}, which takes rights that a warm parent does not keep"
    return _about_environment(launch.env)


def what_was_read(env: Mapping[str, str], read: Mapping[str, str | None]) -> str:
    """Return why a lab with `env` would not be what a cold one is, empty if it would.

    `read` is what the import has read in the parent's environment, and what it found there.
    """
    differs = sorted(name for name, value in read.items() if name not in _MADE_ANEW and env.get(name) != value)
    return f"env has {differs[0]}, which is read when JupyterLab is imported" if differs else ""


def _about_environment(env: Mapping[str, str]) -> str:
    for name in sorted(env):
        if name not in _HARMLESS and _READ_AT_EXEC.fullmatch(name):
            return f"env has {name}, which counts only when a program is executed"
    locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    if locale not in _PLAIN_LOCALES and not _UTF_8.search(locale):
        return f"the locale {locale} is not UTF-8"
    return ""
