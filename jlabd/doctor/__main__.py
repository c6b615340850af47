"""The entry point: `jlabctl doctor` becomes this program."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from jlabd.config.accounts import whose_daemon
from jlabd.doctor import configuration, labs, limits, nginx, selinux, surroundings, tls
from jlabd.doctor.findings import Finding, Grade, unknown
from jlabd.ownership import why_not_only_root
from jlabd.spec import Configuration

_SIGNS = {Grade.GOOD: "ok", Grade.ADVICE: "advice", Grade.UNKNOWN: "?", Grade.WRONG: "WRONG"}


def main() -> int:
    """Examine the machine and print what was found; returns 1 if something is wrong, else 0."""
    options = _options()
    findings = []
    for finding in examine(Path(options.config), options.socket):
        findings.append(finding)
        if not options.json:
            print(told(finding), flush=True)  # what comes next may take its time
    bad = sum(finding.grade is Grade.WRONG for finding in findings)
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print(f"{bad} of {len(findings)} are wrong." if bad else "Nothing is wrong.")
    return int(bad > 0)


def examine(path: Path, socket: str) -> Iterator[Finding]:
    """Look at everything, as far as the configuration lets us know where it is."""
    loaded, findings = configuration.read(path)
    yield from findings
    own = loaded.configuration.daemon.control_socket if loaded is not None else ""
    status = configuration.ask(socket or own)
    yield from configuration.about_daemon(status)
    if loaded is None:
        return
    wanted = loaded.configuration
    pid = None if isinstance(status, str) else int(status["pid"])
    yield from surroundings.about_administrators(wanted)
    if isinstance(status, str):
        yield from surroundings.about_ports(wanted)
    else:
        yield from surroundings.about_trees(wanted, [entry["pid"] for entry in status["instances"] if entry["pid"]])
    yield from labs.examine(wanted, whose_daemon(path))
    yield from limits.examine(wanted, pid)
    yield from _about_nginx(path, wanted)
    yield from tls.examine(wanted)
    yield from selinux.examine(wanted, pid)


def _about_nginx(path: Path, wanted: Configuration) -> Iterator[Finding]:
    """Have nginx's commands run, unless it would be root who runs what somebody else wrote."""
    why = _why_not_obey(path) if wanted.nginx.enabled and os.geteuid() == 0 else ""
    if why:
        sentence = f"was not looked at: the configuration says which program root would run, but {why}"
        yield unknown(nginx.SUBJECT, sentence, f"mend that, or ask as its owner: jlabctl doctor --config {path}")
    else:
        yield from nginx.examine(wanted.nginx)


def _why_not_obey(path: Path) -> str:
    try:
        return why_not_only_root(path)
    except OSError as error:
        return f"{path} cannot be looked at: {error.strerror or error}"


def told(finding: Finding) -> str:
    """Return a finding for people: a line, and the fix below; whatever users named things, a terminal only shows it."""
    line = f"{_SIGNS[finding.grade]:>6}  {finding.subject}: {_safe(finding.sentence)}"
    return f"{line}\n{'':>6}  → {_safe(finding.fix)}" if finding.fix else line


def _safe(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" for c in text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="jlabctl doctor", description="Look for what usually goes wrong.")
    parser.add_argument("--config", metavar="PATH", default="/etc/jlabd.toml", help="default: %(default)s")
    parser.add_argument(
        "--socket", metavar="PATH", default="", help="control socket; default: as the configuration says"
    )
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
