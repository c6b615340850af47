"""Each piece of configuration in the documentation is one: for the daemon and for editors; each key is explained."""

import json
import re
import subprocess
import tomllib

import pytest

from jlabd.config.manual import TEXTS
from jlabd.install.place import PACKAGED_SCHEMA
from tests.config.conftest import Files, People
from tests.docs.pages import PAGES, TOP, blocks, name, spans

SCHEMA = TOP / "etc/jlabd.schema.json"
TAPLO = TOP / ".cache/tests/node/node_modules/.bin/taplo"
FOUND = [
    pytest.param(text, id=f"{name(page)}-{number}")
    for page in PAGES
    for number, (_, text) in enumerate(blocks(page, "toml"))
]
INLINE = re.compile(r"(?:\[\w+(?:\.\w+)?\] )?[a-z_]+(?:\.[a-z_]+)? = [\[{\"\d].*|[a-z_]+ = (?:true|false)")
TOP_KEYS = {".".join(key.split(".")[:2]) for key in TEXTS}
WRONG = [
    ("[daemon]\nlog_levle = 'info'\n", "log_levle"),
    ("[instance.alice]\nuser = 'alice'\nrootdir = '/srv'\n", "rootdir"),
    ("[instance.alice]\nuser = 'alice'\nhealth = { interval = '5 parsecs' }\n", "5 parsecs"),
    ("[template.students]\nusers = ['ann']\nidle = { stop = '2h' }\n", "stop"),
    ("[nginx]\nlisten = [true]\n", "true"),
]


def inline():
    """Yield each `key = value` in the text of the pages, as a file: in the table that has such a key."""
    for page in PAGES:
        for span in spans(page):
            if INLINE.fullmatch(span):
                yield pytest.param(as_file(span), id=f"{name(page)}: {span}")


def as_file(setting):
    """Return a file with a setting in the table that it names, or that has such a key."""
    named = re.match(r"(\[[^\]]+\]) (.*)", setting)
    if named:
        return f"{named[1]}\n{named[2]}\n"
    table, _, rest = setting.partition(".") if setting.startswith(("nginx.", "daemon.")) else ("", "", setting)
    key = rest.partition(" ")[0].partition(".")[0]
    table = table or next(table for table in ("instance", "daemon", "nginx") if f"{table}.{key}" in TOP_KEYS)
    if table != "instance":
        return f"[{table}]\n{rest}\n"
    user = "" if key == "user" else "user = 'alice'\n"
    return f"[instance.alice]\n{user}{rest}\n"


@pytest.mark.parametrize("text", [*FOUND, *inline()])
def test_the_daemon_takes_it(tmp_path, text):
    """The check that `jlabctl check` makes finds nothing, on a machine that has the people who are named."""
    files = Files(tmp_path, People(homes={word: f"/home/{word}" for word in re.findall(r"[a-z]+", text)}))
    text = re.sub(r"^include.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(tls_certificate\w*|password_hash) = .*$", "", text, flags=re.MULTILINE)
    text = text if "[daemon]" not in text else text.replace("[daemon]", '[daemon]\ninclude = ""', 1)
    assert files.check(text, uid=0) == []


def test_there_are_examples():
    """The patterns above find what they are meant to find."""
    assert len(FOUND) >= 5
    assert len(list(inline())) >= 7


def taplo(folder, *, by_schema=True):
    """Have an editor's checker look at a folder, told the schema or not; return (exit code, what it says)."""
    if not TAPLO.exists():
        pytest.skip("NO TAPLO: run tests/setup/node.sh, which needs npm")
    told = ["--schema", SCHEMA.as_uri()] if by_schema else []
    command = [TAPLO, "lint", "--colors", "never", *told, *sorted(folder.glob("*.toml"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def test_editors_take_it(tmp_path):
    """The shipped file, with and without its settings taken in, and every piece in the pages satisfy the schema."""
    shipped = (TOP / "etc/jlabd.toml").read_text()
    texts = [shipped, re.sub(r"^#(\[|[a-z_]+ = )", r"\1", shipped, flags=re.MULTILINE)]
    texts += [found.values[0] for found in (*FOUND, *inline())]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.toml").write_text(text)
    code, said = taplo(tmp_path)
    assert code == 0, said
    assert f"total={len(texts)}" in said


def test_editors_see_mistakes(tmp_path):
    """Each wrong key or value is underlined, in its line."""
    for number, (text, _) in enumerate(WRONG):
        (tmp_path / f"{number}.toml").write_text(text)
    code, said = taplo(tmp_path)
    assert code == 1
    for number, (text, word) in enumerate(WRONG):
        line = next(number for number, line in enumerate(text.splitlines(), 1) if word in line)
        assert f"{number}.toml:{line}:" in said, said
        assert word in said


def test_shipped_file_names_the_schema(tmp_path):
    """An editor that opens the shipped file finds the schema by itself, where the package has put it."""
    text = (TOP / "etc/jlabd.toml").read_text()
    assert text.count(PACKAGED_SCHEMA) == 1
    assert "-t %{buildroot}%{_datadir}/jlabd etc/jlabd.schema.json" in (TOP / "packaging/jlabd.spec").read_text()
    there = text.replace(PACKAGED_SCHEMA, SCHEMA.as_uri())
    (tmp_path / "a.toml").write_text(there)
    assert taplo(tmp_path, by_schema=False)[0] == 0
    (tmp_path / "a.toml").write_text(there + "nonsense = 1\n")
    code, said = taplo(tmp_path, by_schema=False)
    assert (code, "'nonsense' was unexpected" in said) == (1, True), said


def test_every_key_is_explained():
    """Each key stands in the shipped file or on a page; the manual page has all of them (tests/house/test_pages.py)."""
    texts = [(TOP / "etc/jlabd.toml").read_text(), *(page.read_text() for page in PAGES)]
    words = set(re.findall(r"[a-z][a-z0-9_]+", " ".join(texts)))
    assert {key for key in TEXTS if key.rpartition(".")[2] not in words} == set()
    manual = (TOP / "packaging/man/jlabd.toml.5").read_text().replace("\\", "")
    assert [key for key in TEXTS if key.rpartition(".")[2] not in manual] == []
    assert json.loads(SCHEMA.read_text())["additionalProperties"] is False
    assert tomllib.loads((TOP / "etc/jlabd.toml").read_text()).keys() <= {"daemon", "nginx", "defaults"}
