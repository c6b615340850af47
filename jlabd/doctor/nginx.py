"""Looks whether nginx is there, reads what jlabd writes, and can connect to the labs."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from jlabd.doctor.findings import Finding, advice, good, unknown, wrong
from jlabd.nginx import marks, verify
from jlabd.nginx.reading import Dump, dumping, entry_path
from jlabd.spec import NginxSpec

SUBJECT = "nginx"
TIMEOUT_S = 30.0
_WORDS = 400
"""Characters of nginx's complaint that are quoted, from its end."""


def examine(spec: NginxSpec) -> Iterator[Finding]:
    """Look at the nginx that `spec` speaks of."""
    if not spec.enabled:
        yield good(SUBJECT, "switched off in the configuration (nginx.enabled = false)")
        return
    dump = _dump(spec.test_command)
    if isinstance(dump, Finding):
        yield dump
        return
    yield good(SUBJECT, "accepts its configuration")
    yield from judge(spec, dump)
    yield from about_the_running_one(spec)


def judge(spec: NginxSpec, dump: Dump) -> Iterator[Finding]:
    """Say what `dump` means for the labs. Pure."""
    yield _about_include(spec, dump)
    yield _about_group(spec, dump)
    yield _about_reloads(dump)


def _dump(test_command: Sequence[str]) -> Dump | Finding:
    argv = dumping(test_command)
    if argv is None:
        return unknown(SUBJECT, "nginx.test_command has no -t, so its configuration cannot be looked at")
    said = " ".join(argv)
    try:
        done = subprocess.run(argv, capture_output=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        return wrong(SUBJECT, f"there is no program {argv[0]}", "dnf install nginx, or set nginx.enabled = false")
    except (OSError, subprocess.TimeoutExpired) as error:
        return unknown(SUBJECT, f"`{said}` cannot be run: {error}")
    complaint = done.stderr.decode(errors="replace").strip()[-_WORDS:]
    if done.returncode == 0:
        return Dump(done.stdout.decode(errors="replace"))
    if "Permission denied" in complaint or "SSL_CTX_use_PrivateKey_file" in complaint:
        return unknown(SUBJECT, "its configuration can only be read by root", "run sudo jlabctl doctor")
    return wrong(SUBJECT, f"`{said}` says: {complaint}", "mend what nginx complains about")


def _about_include(spec: NginxSpec, dump: Dump) -> Finding:
    entry = entry_path(spec)
    if dump.includes(spec):
        return good(SUBJECT, f"includes {entry}")
    return wrong(
        SUBJECT,
        f"does not include {entry}, so nobody reaches a lab through it",
        f"write `include {entry};` into the http {{ }} block of nginx.conf, then `nginx -s reload`",
    )


def _about_group(spec: NginxSpec, dump: Dump) -> Finding:
    """Compare the group of the workers (its default is the group of their user's name) with ours."""
    words = (dump.directive("user") or "").split()
    if not words:
        return unknown(SUBJECT, "runs as whoever was compiled into it; nginx.conf has no `user`")
    group = words[-1]
    if group == spec.group:
        return good(SUBJECT, f"its workers are in the group {group}, which may connect to the labs")
    return wrong(
        SUBJECT,
        f"its workers are in the group {group}, but the labs' sockets are open to {spec.group}",
        f'set nginx.group = "{group}" in the configuration, then restart jlabd',
    )


def about_the_running_one(spec: NginxSpec) -> Iterator[Finding]:
    """Ask nginx whether it has loaded what lies there."""
    try:
        wanted = marks.found(Path(spec.config_dir, "live", marks.FILE).read_text())
    except OSError:
        return  # jlabd has published nothing yet
    answer = asyncio.run(verify.ask(spec))
    if answer.mark is not None and answer.mark == wanted:
        yield good(SUBJECT, f"{answer.words}, as it should")
    else:
        fix = "start or reload nginx; jlabd tries by itself, and `jlabctl status` shows what nginx said"
        yield wrong(SUBJECT, answer.words, fix)


def _about_reloads(dump: Dump) -> Finding:
    limit = dump.directive("worker_shutdown_timeout")
    if limit is not None:
        return good(SUBJECT, f"old workers end at the latest {limit} after a reload")
    return advice(
        SUBJECT,
        "each reload leaves old workers behind as long as somebody's websocket is open, which can be days",
        "write `worker_shutdown_timeout 1h;` at the top of nginx.conf: websockets reconnect by themselves",
    )
