"""What is derived from the code: the JSON schema and the manual pages. `make pages` makes them anew."""

import json
import re
import shutil
import subprocess
import sys
import tomllib

import jsonschema
import pytest

from jlabd.config.manual import TEXTS
from jlabd.config.schema import TABLES, keys
from tests.house.tree import TOP

SCHEMA = json.loads((TOP / "etc/jlabd.schema.json").read_text())
PAGES = sorted((TOP / "packaging/man").glob("*.[158]"))
GOOD = """
[daemon]
status_listen = "unix:/run/status.sock"
[nginx]
listen = [80, "[::]:443"]
server_name = ["a.example.com", "b.example.com"]
[defaults]
restart = { policy = "on-failure", initial = 0, max = "1h30min" }
[instance.a]
user = "ann"
limits = { memory_max = "1.5G", cpu_quota = "150%" }
[template.b]
users = ["bob"]
root_dir = "{home}/notebooks"
"""
BAD = [
    "[daemon]\nlog_levle = 'info'",
    "[nginx]\nenabled = 'yes'",
    "[instance.a]\nhealth = { interval = '5 parsecs' }",
    "[instance.a]\nroot_dir = 'work'",
    "[instance.'a b']\nuser = 'ann'",
    "[instance.a]\nrestart = { policy = 'sometimes' }",
    "[templates.a]\nusers = ['ann']",
]


def run(*argv):
    """Run a program and return everything that it printed."""
    done = subprocess.run(argv, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout


def test_what_is_derived_is_up_to_date(tmp_path):
    """What lies in the checkout is what the code makes of it now."""
    made = run(sys.executable, "packaging/pages.py", "--output", tmp_path).split()
    assert len(made) == 4
    assert [name for name in made if (tmp_path / name).read_text() != (TOP / name).read_text()] == [], "make pages"


def test_every_key_has_a_text():
    """jlabd/config/manual.py says of every key of the model what it means, and of no other."""
    known = {key for name, table in TABLES.items() for key, _ in keys(table, name)}
    assert known - TEXTS.keys() - {f"template.{key.removeprefix('instance.')}" for key in TEXTS} == set()
    assert TEXTS.keys() - known == set()


@pytest.mark.parametrize("text", [(TOP / "etc/jlabd.toml").read_text(), GOOD], ids=["shipped", "good"])
def test_schema_takes_what_works(text):
    """An editor does not complain about what the daemon takes."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(tomllib.loads(text))) == []


def test_schema_takes_every_shipped_setting():
    """The settings of the shipped file that are commented out are fine, too."""
    text = (TOP / "etc/jlabd.toml").read_text()
    text = re.sub(r"^#(\[|[a-z_]+ = )", r"\1", text, flags=re.MULTILINE)
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(tomllib.loads(text))) == []


@pytest.mark.parametrize("text", BAD)
def test_schema_sees_mistakes(text):
    """An editor sees a wrong key or value."""
    assert len(list(jsonschema.Draft7Validator(SCHEMA).iter_errors(tomllib.loads(text)))) > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_manual_page_is_clean(page):
    """mandoc finds nothing; whether other pages are installed is not the matter here."""
    if shutil.which("mandoc") is None:
        pytest.skip("NO mandoc: apt install mandoc")
    said = [line for line in run("mandoc", "-T", "lint", "-W", "all", page).splitlines() if "mandoc.db" not in line]
    assert [line for line in said if "referenced manual not found" not in line] == []


def test_manual_pages_say_everything():
    """Each command, option and key is on its page."""
    assert [page.name for page in PAGES] == ["jlabctl.1", "jlabd.8", "jlabd.toml.5"]
    if shutil.which("mandoc") is None:
        pytest.skip("NO mandoc: apt install mandoc")
    command, _, file = (run("mandoc", "-T", "markdown", page) for page in PAGES)
    asked = run(sys.executable, "-m", "jlabd.ctl.main", "--help")
    commands = re.findall(r"^    ([a-z-]+)  ", asked, re.MULTILINE)
    assert len(commands) > 10
    assert [name for name in commands if f"**{name}**" not in command] == []
    plain = file.replace("\\", "")
    inner = [key.partition(".")[2] for key in TEXTS]
    assert [key for key in inner if f"**{key}**" not in plain] == []
