"""What a file is, by its content first and its name second. Pure."""

from __future__ import annotations

import posixpath
import re

from jlabd.config.importers.findings import Given, Kind

_SUPERVISOR = re.compile(r"^\[(?:program:[^\]]+|supervisord|include|unix_http_server)\]", re.MULTILINE)
_SYSTEMD = re.compile(r"^\s*\[(?:Service|Unit|Install)\]", re.MULTILINE)
_SHEBANG = re.compile(r"#!\s*\S*?(?:/env\s+(?:-\S+\s+)*)?(?:\S*/)?(?:ba|da|z|k)?sh\b")
_PYTHON_SHEBANG = re.compile(r"#!.*python")
_TRAITS = re.compile(r"^\s*c\.[A-Za-z]+\.[a-z_]+\s*=|\bget_config\(\)", re.MULTILINE)
_NGINX = re.compile(
    r"^\s*(?:(?:server|upstream\s+\S+|http|location\s[^\n{]*|map\s[^\n{]*)\s*\{|proxy_pass\s)", re.MULTILINE
)
_COMMAND = re.compile(r"^[^#\n]*\bjupyter[- ](?:lab|notebook|server)\b|^[^#\n]*-m\s+jupyterlab\b", re.MULTILINE)
_JSON_NAME = re.compile(r"jupyter_\w+\.json")
_PY_NAME = re.compile(r"jupyter\w*_config\.py")


def is_shebang_of_a_shell(line: str) -> bool:
    """Tell whether `line` says that a shell runs the file."""
    return bool(_SHEBANG.match(line))


def kind_of(given: Given) -> Kind:
    """Return what the file is. Raises ImportFailedError if it is none of what can be imported."""
    name, text = posixpath.basename(given.path), given.text
    if _SHEBANG.match(text):
        return Kind.SCRIPT
    if _PY_NAME.fullmatch(name) or _JSON_NAME.fullmatch(name) or _PYTHON_SHEBANG.match(text):
        return Kind.JUPYTER
    for kind, pattern in (
        (Kind.SUPERVISOR, _SUPERVISOR),
        (Kind.SYSTEMD, _SYSTEMD),
        (Kind.NGINX, _NGINX),
        (Kind.JUPYTER, _TRAITS),
        (Kind.SCRIPT, _COMMAND),
    ):
        if pattern.search(text):
            return kind
    if name.endswith((".sh", ".bash")):
        return Kind.SCRIPT
    raise given.at(0).failed(
        "is nothing that can be imported: it looks neither like a Supervisor program, a systemd service, a Jupyter "
        "configuration, an nginx server nor a script that starts JupyterLab"
    )
