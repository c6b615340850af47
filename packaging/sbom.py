# ruff: noqa: INP001  (a program's module, not a package)
"""The software bill of materials of a release, in the format of CycloneDX 1.6: what is bundled in the packages.

Everything comes from the wheels themselves, which pip checked against the lock file. The same wheels and the same time
give the same bytes. Standard library only.
"""

from __future__ import annotations

import email.parser
import hashlib
import json
import re
import time
import tomllib
import uuid
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

SPACE = uuid.UUID("6e9f2f1a-7d4a-4d0c-9f0e-6a1f0a2c7b55")
"""For serial numbers that depend on nothing but the content."""

END_OF_NAME = r"[\s;\[<>=!~(]"
"""What follows the name in a requirement."""

OLD_WORDS = {
    "Apache 2.0": "Apache-2.0",
    "Apache-2.0": "Apache-2.0",
    "BSD-3-Clause": "BSD-3-Clause",
    "PSF-2.0": "PSF-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
}
"""Licences as they were named before there were License-Expressions: `License` fields and classifiers."""


class UnknownLicenceError(Exception):
    """A wheel does not say under which licence it is in words that we know."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """What a wheel says of itself."""

    name: str
    """As in the lock file: small letters and hyphens."""
    version: str
    licence: str
    """An SPDX expression."""
    sha256: str
    needs: frozenset[str]
    """Names of what it requires, extras and markers left aside."""

    @property
    def reference(self) -> str:
        """Return its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def read(path: Path) -> Wheel:
    """Return what the wheel at `path` says of itself. Raises UnknownLicenceError, OSError."""
    with zipfile.ZipFile(path) as archive:
        (entry,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        metadata = email.parser.Parser().parsestr(archive.read(entry).decode())
    return Wheel(
        name=normal(metadata["Name"]),
        version=metadata["Version"],
        licence=licence_of(metadata),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        needs=frozenset(normal(re.split(END_OF_NAME, line)[0]) for line in metadata.get_all("Requires-Dist", [])),
    )


def normal(name: str) -> str:
    """Return a project's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(metadata: Message) -> str:
    """Return the licence of a wheel as an SPDX expression. Raises UnknownLicenceError."""
    if expression := metadata["License-Expression"]:
        return expression
    words = [metadata["License"] or "", *metadata.get_all("Classifier", [])]
    known = [OLD_WORDS[word] for word in words if word in OLD_WORDS]
    if not known:
        raise UnknownLicenceError(f"{metadata['Name']}: look up its licence, and add the words to OLD_WORDS")
    return known[0]


def direct(pyproject: Path) -> set[str]:
    """Return the names of what jlabd itself asks for."""
    asked = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    return {normal(re.split(END_OF_NAME, line)[0]) for line in asked}


def document(version: str, wheels: list[Wheel], needs: set[str], epoch: int) -> str:
    """Return the bill of jlabd `version`, which itself `needs` these, as JSON, made at `epoch` (seconds since 1970)."""
    wheels = sorted(wheels, key=lambda wheel: wheel.name)
    us = f"pkg:rpm/jlabd@{version}"
    there = {wheel.name: wheel.reference for wheel in wheels}
    tree = [
        {"ref": us, "dependsOn": sorted(there[name] for name in needs)},
        *(
            {"ref": wheel.reference, "dependsOn": sorted(there[name] for name in wheel.needs & set(there))}
            for wheel in wheels
        ),
    ]
    body = {
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
            "component": {
                "type": "application",
                "bom-ref": us,
                "name": "jlabd",
                "version": version,
                "licenses": [{"license": {"id": "BSD-3-Clause"}}],
            },
        },
        "components": [component(wheel) for wheel in wheels],
        "dependencies": tree,
    }
    serial = uuid.uuid5(SPACE, json.dumps(body, sort_keys=True))
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return json.dumps(head | body, indent=2) + "\n"


def component(wheel: Wheel) -> dict[str, object]:
    """Return the entry of one wheel."""
    return {
        "type": "library",
        "bom-ref": wheel.reference,
        "name": wheel.name,
        "version": wheel.version,
        "purl": wheel.reference,
        "licenses": [{"expression": wheel.licence}],
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
    }
