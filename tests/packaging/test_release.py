"""A release, made in a copy of this project: version, changelog, tag, and everything that is published."""

import filecmp
import hashlib
import json
import re
import subprocess
import sys
import zipfile

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.packaging.booted import TOP
from tests.packaging.repository import checkout, query

VERSION = "7.8.9"
DIST = ["--dist", "el9"]
IDENTITY = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Copy:
    """A copy of the project with a history of its own."""

    def __init__(self, builder, place):
        self.place = checkout(builder, place)
        (place / ".cache").symlink_to(builder.TOP / ".cache")
        (place / ".gitignore").write_text("/.cache\n/dist\n/build\n__pycache__\n*.egg-info\n")
        self.env = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin", "HOME": str(place.parent), **IDENTITY}
        self.env["PYTHON312"] = builder.find_python()
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("Begin")

    def git(self, *words):
        """Run git; return what it printed."""
        command = ["git", "-C", self.place, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=self.env).stdout

    def commit(self, message):
        """Commit everything."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def release(self, *words):
        """Run the program; return (status, what it printed)."""
        command = [sys.executable, "packaging/release.py", *words, "--quick"]
        done = subprocess.run(command, cwd=self.place, capture_output=True, text=True, check=False, env=self.env)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(builder, tmp_path):
    """A copy of the project, all committed."""
    return Copy(builder, tmp_path / "project")


def test_release(copy, tmp_path):
    """Everything is there, says the version, has its checksum, and comes out the same when it is built again."""
    changes = (copy.place / "CHANGELOG.md").read_text()
    status, said = copy.release(VERSION, "--date", "2031-02-03", *DIST)
    assert status == 0, said
    dist = copy.place / "dist"
    names = {path.name for path in dist.iterdir()}
    assert names == {
        f"jlabd-{VERSION}-1.el9.x86_64.rpm",
        f"jlabd-selinux-{VERSION}-1.el9.noarch.rpm",
        f"jlabd-{VERSION}-1.src.rpm",
        f"jlabd-{VERSION}-py3-none-any.whl",
        f"jlabd-{VERSION}.cdx.json",
        f"jlabd-{VERSION}.md",
        "SHA256SUMS",
    }
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=dist, check=True)
    assert (dist / "SHA256SUMS").read_text().count("\n") == len(names) - 1
    assert query(dist / f"jlabd-{VERSION}-1.el9.x86_64.rpm", "--queryformat", "%{VERSION}\n") == [VERSION]

    changelog = (copy.place / "CHANGELOG.md").read_text()
    assert changelog.replace(f"\n## [{VERSION}] - 2031-02-03\n", "", 1) == changes
    notes = (dist / f"jlabd-{VERSION}.md").read_text()
    assert notes.startswith("### Added\n")
    assert "[Unreleased]" not in notes
    assert copy.git("status", "--porcelain") == ""
    assert copy.git("log", "-1", "--format=%s").strip() == f"Release {VERSION}"
    assert copy.git("describe").strip() == f"v{VERSION}"

    (copy.place / "jlabd/rubbish.py").write_text("x = 1\n")
    status, said = copy.release(VERSION, "--rebuild", *DIST, "--output", str(tmp_path / "again"))
    assert status == 0, said
    same, different, missing = filecmp.cmpfiles(dist, tmp_path / "again", names, shallow=False)
    assert (set(same), different, missing) == (names, [], [])


@pytest.mark.parametrize(
    ("version", "reason"),
    [("1.2", "is no version"), ("0.0.1", "comes before 5.0.0"), ("5.0.0", "there is a tag v5.0.0 already")],
)
def test_versions_that_are_refused(copy, version, reason):
    """A version is three numbers, greater than all that were released."""
    copy.git("tag", "--annotate", "v5.0.0", "--message", "x")
    status, said = copy.release(version)
    assert (status, copy.git("tag", "--list")) == (1, "v5.0.0\n")
    assert reason in said


def test_nothing_new(copy):
    """What has no change to tell of is not released; nor is what is not committed."""
    path = copy.place / "CHANGELOG.md"
    path.write_text("# Changelog\n\n## [Unreleased]\n\n## [0.0.1] - 2030-01-01\n\n### Added\n\n- All.\n")
    assert "not committed" in copy.release(VERSION)[1]
    copy.commit("Forget")
    status, said = copy.release(VERSION)
    assert status == 1
    assert "nothing under [Unreleased]" in said
    assert copy.git("status", "--porcelain") == ""


@pytest.fixture(scope="module")
def sbom():
    """packaging/sbom.py as a module."""
    sys.path.insert(0, str(TOP / "packaging"))
    try:
        import sbom as module
    finally:
        sys.path.remove(str(TOP / "packaging"))
    return module


@pytest.fixture(scope="module")
def wheels(builder, sbom):
    """What the bundled wheels say of themselves, by path."""
    folder = builder.fetch_wheels(builder.find_python(), TOP / builder.LOCK)
    return {path: sbom.read(path) for path in folder.iterdir()}


def test_bill_of_materials(sbom, wheels):
    """It is valid CycloneDX, has each requirement with hash, licence and dependencies, and is the same each time."""
    needs = sbom.direct(TOP / "pyproject.toml")
    text = sbom.document(VERSION, list(wheels.values()), needs, 1_900_000_000)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    lock = (TOP / "packaging/lock/runtime.txt").read_text()
    components = {component["name"]: component for component in bill["components"]}
    pinned = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock, re.MULTILINE))
    assert {name: component["version"] for name, component in components.items()} == pinned
    for path, wheel in wheels.items():
        assert components[wheel.name]["hashes"][0]["content"] == hashlib.sha256(path.read_bytes()).hexdigest()
    depends = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert any(ref.startswith("pkg:pypi/pydantic-core@") for ref in depends[components["pydantic"]["bom-ref"]])
    ours = depends[bill["metadata"]["component"]["bom-ref"]]
    assert components["aiohttp"]["bom-ref"] in ours
    assert components["yarl"]["bom-ref"] not in ours, "that is aiohttp's"
    assert sbom.document(VERSION, list(reversed(wheels.values())), needs, 1_900_000_000) == text


def test_licences_of_the_package(wheels):
    """The package's licence names those of all that is bundled, and no other."""
    spec = (TOP / "packaging/jlabd.spec").read_text()
    (named,) = re.findall(r"^License: +(.+ AND .+)$", spec, re.MULTILINE)
    # Of several to choose from the first is ours.
    bundled = {wheel.licence.split(" OR ")[0] for wheel in wheels.values()}
    wanted = {"BSD-3-Clause", *(word for licence in bundled for word in licence.split(" AND "))}
    assert set(named.split(" AND ")) == wanted


def test_unknown_licence(sbom, tmp_path):
    """A wheel whose licence is not told in words that we know stops the release."""
    path = tmp_path / "odd-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("odd-1.0.dist-info/METADATA", "Name: odd\nVersion: 1.0\nLicense: my own\n")
    with pytest.raises(sbom.UnknownLicenceError, match="odd: look up its licence"):
        sbom.read(path)
