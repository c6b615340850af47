"""Looks whether each lab's account, folder, program and JupyterLab are there, and can be used by that account."""

from __future__ import annotations

import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jlabd.doctor.as_account import NotAllowedError, look
from jlabd.doctor.findings import Finding, advice, good, unknown, wrong
from jlabd.doctor.places import READ_ONLY, survey
from jlabd.spec import Configuration, InstanceSpec

SUBJECT = "labs"
OLDEST_LAB = (3, 6)


def examine(configuration: Configuration, uid: int) -> Iterator[Finding]:
    """Look at every instance of a daemon of user `uid`; say once what concerns several."""
    findings: dict[Finding, list[str]] = {}
    for name, spec in configuration.instances.items():
        for finding in _examine_one(spec, uid):
            findings.setdefault(finding, []).append(name)
    for finding, names in findings.items():
        yield Finding(finding.grade, SUBJECT, f"{_listed(names)}: {finding.sentence}", finding.fix)
    count = len(configuration.instances) - len({name for names in findings.values() for name in names})
    if count:
        what = "account, folder and program are in order"
        yield good(SUBJECT, f"{'its' if count == 1 else 'their'} {what} ({count} lab{'s' if count > 1 else ''})")


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _examine_one(spec: InstanceSpec, uid: int) -> Iterator[Finding]:
    try:
        account = pwd.getpwuid(uid) if spec.user is None else pwd.getpwnam(spec.user)
    except KeyError:
        who = spec.user or uid
        yield wrong(SUBJECT, f"there is no account {who}", f"useradd {who}, or correct user")
        return
    yield from _secrets(spec)
    folder = spec.root_dir or account.pw_dir
    program = spec.command[0] if spec.command else f"{spec.venv}/bin/python"
    venv = "" if spec.command else spec.venv
    try:
        programs = [program] if program.startswith("/") else []
        seen = look(account, lambda: survey(folder, programs, venv, account.pw_dir))
    except NotAllowedError as error:
        yield unknown(SUBJECT, f"could not be looked at: {error}", "sudo jlabctl doctor")
        return
    except OSError as error:
        yield unknown(SUBJECT, f"could not be looked at: {error}")
        return
    yield from judge(spec, account.pw_name, folder, seen)


def judge(spec: InstanceSpec, user: str, folder: str, seen: dict[str, Any]) -> Iterator[Finding]:
    """Say what a survey (see `places`) means. Pure."""
    if seen["folder"] == READ_ONLY:
        yield advice(SUBJECT, f"{user} cannot write in the folder {folder}", "correct root_dir, or its permissions")
    elif why := seen["folder"]:
        yield wrong(SUBJECT, f"{user} cannot use the folder {folder}: {why}", "correct root_dir, or its permissions")
    elif why := seen["home"]:
        yield advice(SUBJECT, f"{user} cannot use her home: {why}", "without one settings and history are not kept")
    for program, why in seen["programs"].items():
        if why:
            yield _no_program(spec, user, program, why)
    if not spec.command and not any(seen["programs"].values()):
        yield from _about_packages(spec.venv, seen["packages"])
    for description, program in seen["kernels"].items():
        yield advice(
            SUBJECT,
            f"the kernel {description} cannot start: {program} is not there",
            f"make it anew with `python -m ipykernel install`, or remove {Path(description).parent}",
        )


def _no_program(spec: InstanceSpec, user: str, program: str, why: str) -> Finding:
    if spec.command:
        return wrong(SUBJECT, f"{user} cannot run {program}: {why}", "correct command, or the permissions")
    making = f"python3 -m venv {spec.venv} && {spec.venv}/bin/pip install jupyterlab"
    return wrong(SUBJECT, f"{user} cannot run {program}: {why}", f"correct venv, or make it: {making}")


def _about_packages(venv: str, packages: dict[str, str]) -> Iterator[Finding]:
    install = f"{venv}/bin/pip install --upgrade"
    version = packages.get("jupyterlab", "")
    if not version:
        yield wrong(SUBJECT, f"there is no JupyterLab in {venv}", f"{install} jupyterlab")
    elif _numbers(version) < OLDEST_LAB:
        yield advice(SUBJECT, f"JupyterLab {version} in {venv} is older than what jlabd knows", f"{install} jupyterlab")
    elif "ipykernel" not in packages:
        yield advice(SUBJECT, f"there is no Python kernel in {venv}", f"{install} ipykernel")


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else OLDEST_LAB


def _secrets(spec: InstanceSpec) -> Iterator[Finding]:
    """Look at the files that hold secrets, which are read by the daemon."""
    for key, path in (("password_hash_file", spec.password_hash_file), ("token_file", spec.token_file)):
        if not path:
            continue
        try:
            mode = Path(path).stat().st_mode
        except FileNotFoundError:
            yield wrong(SUBJECT, f"{key}: there is no {path}", f"make it, or leave {key} out")
        except OSError as error:
            yield unknown(SUBJECT, f"{key}: {path} cannot be looked at: {error.strerror}", "sudo jlabctl doctor")
        else:
            if mode & 0o007:
                yield wrong(SUBJECT, f"{key}: everybody may read or change {path}", f"chmod o= {path}")
