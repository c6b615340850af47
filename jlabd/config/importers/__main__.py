"""The entry point: `jlabctl import` becomes this program."""

from __future__ import annotations

import argparse
import os
import sys

from jlabd.config.importers import gather, judge, together
from jlabd.config.importers.findings import Fact, ImportFailedError, Key
from jlabd.config.importers.settle import Instance, settle
from jlabd.config.words import instance_name


def main() -> int:
    """Print the TOML; returns 0, or 1 after a sentence on stderr."""
    options = _options()
    try:
        text = imported(options.files, options.name or "")
    except ImportFailedError as error:
        print(f"jlabctl: {_safe(str(error))}", file=sys.stderr)
        return 1
    try:
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # a text file, as Python makes it
        print(text, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _safe(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def imported(paths: list[str], name: str = "") -> str:
    """Return the configuration that the files at `paths` come to, for one lab called `name` if that is given.

    Raises ImportFailedError.
    """
    machine = gather.machine()
    gathering = gather.Gathering(machine, name)
    gathering.named(paths)
    labs, left = together.labs(gathering.material, machine)
    if not labs:
        why = f" ({left[0].place}: {left[0].what}: {left[0].why})" if left else ""
        raise ImportFailedError(f"{', '.join(paths)}: no lab was found in it{why}")
    if name and len(labs) > 1:
        places = ", ".join(str(lab.lead.place) for lab in labs)
        raise ImportFailedError(f"--name {name} is for one lab, and there are {len(labs)}: {places}")
    taken: set[str] = set()
    instances = []
    for lab in labs:
        findings = [*lab.findings(), *together.unread(lab, machine)]
        called = name or together.name_of(lab, taken)
        instances.append(settle(called, lab.lead.place, findings, machine, lab.owner))
    return judge.passing(instances, _shared(instances), left, gathering.files)


def _shared(instances: list[Instance]) -> dict[Key, Fact]:
    """Return what the instances ask of `[nginx]`; the first of two that disagree counts."""
    shared: dict[Key, Fact] = {}
    for instance in instances:
        for key, fact in instance.nginx.items():
            before = shared.get(key)
            if before is None:
                shared[key] = fact
            elif isinstance(before.value, list) and isinstance(fact.value, list):
                together_ = list(dict.fromkeys([*before.value, *fact.value]))
                shared[key] = Fact(before.key, together_, before.place)
    return shared


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="jlabctl import",
        description="Print as configuration of jlabd what ran labs until now. Nothing is changed, and nothing that is "
        "read is run. Files given together may be parts of one lab; files that they name are read too.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a Supervisor configuration, a systemd unit or drop-in, "
        "a run script, a jupyter_lab_config.py, an nginx server",
    )
    parser.add_argument("--name", type=_name, metavar="NAME", help="what the instance is to be called")
    return parser.parse_args()


def _name(text: str) -> str:
    try:
        return instance_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
