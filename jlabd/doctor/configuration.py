"""Looks whether the configuration is in order and the daemon runs with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jlabd import __version__
from jlabd.config.accounts import whose_daemon
from jlabd.config.loaded import Loaded
from jlabd.config.problems import ConfigError
from jlabd.config.read import load
from jlabd.control.client import ProblemError, UnreachableError, request
from jlabd.control.wire import loads
from jlabd.doctor.findings import Finding, advice, good, wrong

SUBJECT = "configuration"
SWITCHED_OFF = "warm = false"
"""The reason for a cold start that somebody wanted."""
DAEMON = "daemon"


def read(path: Path) -> tuple[Loaded | None, list[Finding]]:
    """Return the configuration at `path`, None if it cannot be used, and what is wrong with it."""
    try:
        loaded = load(path, uid=whose_daemon(path))
    except ConfigError as error:
        return None, [
            wrong(SUBJECT, str(problem), "correct it; `jlabctl check` looks again") for problem in error.problems
        ]
    findings = [
        wrong(SUBJECT, str(problem), "correct it; the file is left out until then") for problem in loaded.problems
    ]
    count = len(loaded.configuration.instances)
    return loaded, findings or [good(SUBJECT, f"{path} is in order, with {count} instance{'s' if count != 1 else ''}")]


def ask(socket: str) -> dict[str, Any] | str:
    """Return the daemon's status document, or why it does not answer."""
    try:
        document: dict[str, Any] = loads(request(socket, "GET", "/status").read())
    except (UnreachableError, ProblemError) as error:
        return str(error)
    return document


def about_daemon(document: dict[str, Any] | str) -> Iterator[Finding]:
    """Say what the daemon says of itself, or why it does not."""
    if isinstance(document, str):
        yield wrong(DAEMON, document, "systemctl enable --now jlabd, or look into `journalctl -u jlabd`")
        return
    yield good(DAEMON, f"version {document['version']} runs with pid {document['pid']}")
    if document["version"] != __version__:
        sentence = f"the code on disk is version {__version__}, which the running daemon is not"
        yield advice(DAEMON, sentence, "jlabctl reexec; every lab runs on")
    if document["config"]["error"]:
        yield wrong(DAEMON, f"still uses an older configuration: {document['config']['error']}", "jlabctl reload")
    if not document["nginx"]["ok"]:
        yield wrong(
            DAEMON, f"could not bring nginx into line: {document['nginx']['error']}", "see what it says of nginx"
        )
    for entry in document["instances"]:
        if entry["state"] in {"failed", "backoff", "unhealthy"}:
            yield advice(
                DAEMON, f"{entry['name']} is {entry['state']}: {entry['reason']}", f"jlabctl logs {entry['name']}"
            )
        reason = entry.get("launcher_reason")
        if reason and reason != SWITCHED_OFF:
            yield advice(
                DAEMON,
                f"{entry['name']} starts cold, which takes seconds: {reason}",
                "mend that and restart it, or set warm = false if it is meant",
            )
