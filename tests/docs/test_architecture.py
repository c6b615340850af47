"""ARCHITECTURE.md names every room, every folder of tests and every layer, and nothing that is not there."""

import re
import tomllib

from tests.docs.pages import TOP

TEXT = (TOP / "ARCHITECTURE.md").read_text()


def named(heading, prefix):
    """Return the paths in the first column of the table below a heading."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    firsts = re.findall(r"^\| (`.+?`) \| ", section, re.MULTILINE)
    found = [path.rstrip("/") for first in firsts for path in re.findall(rf"`({prefix}/[^`]+)`", first)]
    assert len(set(found)) == len(found), "a row is there twice"
    return set(found)


def rooms():
    """Return the packages and modules right below jlabd."""
    ours = [path for path in (TOP / "jlabd").iterdir() if not path.name.startswith("_") and path.name != "py.typed"]
    return {f"jlabd/{path.name}" for path in ours}


def test_rooms():
    """The table of rooms has each room once."""
    in_table = named("Rooms", "jlabd")
    assert rooms() - in_table == set()
    assert {path for path in in_table if not (TOP / path).exists()} == set()


def test_folders_of_tests():
    """The table of tests has each folder of tests once."""
    folders = {f"tests/{path.name}" for path in (TOP / "tests").iterdir() if path.is_dir() and path.name[0] != "_"}
    assert named("Tests", "tests") == folders


def test_layers():
    """The layers are those that import-linter enforces."""
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [enforced] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    told = [
        set(re.findall(r"`(\w+)`", line.partition(":")[0])) for line in re.findall(r"^\d\. (.+)$", TEXT, re.MULTILINE)
    ]
    assert told == [{room.removeprefix("jlabd.") for room in layer.split(" | ")} for layer in enforced]


def test_files():
    """Every file of Python that the text names is there."""
    names = set(re.findall(r"`((?:\w+/)*\w+\.py)`", TEXT))
    assert len(names) >= 20
    assert [name for name in names if not list(TOP.glob(f"*/**/{name}")) + list(TOP.glob(name))] == []
