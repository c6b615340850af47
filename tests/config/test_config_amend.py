"""Adding and removing instances: everything else stays letter by letter, and nothing wrong is ever written."""

import os
import pwd
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jlabd.config.amend import add, remove
from jlabd.config.edit import rewrite
from jlabd.config.problems import ConfigError

ME = pwd.getpwuid(os.geteuid()).pw_name
HEAD = f"""\
# The machine of the physics group

[daemon]
include = ""   # nothing
[defaults]
user = '{ME}'
allow_root = true
"""
ALICE = """\
# She needs room
# for her data
[instance.alice]      # she
args = [
    "--a",  # one

    "[instance.bob]",
]
# umask = '0077'
"""
BOB = """\
# Bob is away
[instance.bob]
autostart = false
env = { A = \"\"\"# not
a comment
\"\"\" }

[instance.bob.log]
keep = 2
"""
FLOATING = "# Below: the students\n"
CARL = "[instance.'carl']\n"
END = "# the end\n"
BLOCKS = {"alice": ALICE, "bob": BOB, "floating": FLOATING, "carl": CARL, "end": END}


def text_of(*blocks):
    return "\n".join([HEAD, *(BLOCKS[block] for block in blocks)])


@pytest.mark.parametrize("name", ["alice", "bob", "carl"])
def test_removed_with_its_comments_and_nothing_else(files, name):
    """A table goes with what stands directly above, in and below it; other comments and gaps stay."""
    files.write_main(text_of(*BLOCKS))
    remove(files.main, name)
    assert files.main.read_text() == text_of(*(block for block in BLOCKS if block != name))


@given(st.permutations(sorted(BLOCKS)), st.sampled_from(["alice", "bob", "carl"]))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_removed_from_any_place(files, order, name):
    """Wherever it stands, the rest is as if it had never been there; so is a removal of what was added."""
    files.write_main(text_of(*order))
    remove(files.main, name)
    without = text_of(*(block for block in order if block != name))
    assert files.main.read_text() == without
    add(files.main, name, {"umask": "0077"})
    remove(files.main, name)
    assert files.main.read_text() == without


def test_tables_of_one_instance_far_from_each_other(files):
    """All parts go, also those that stand among others."""
    files.write_main(f"{HEAD}\n[instance.a.log]\nkeep = 1\n\n[instance.b]\n\n[instance.a]\numask = '0077'\n")
    remove(files.main, "a")
    assert files.main.read_text() == f"{HEAD}\n[instance.b]\n"


@pytest.mark.parametrize(
    "notation",
    [
        "instance = { a = { umask = '0077' }, b = {} }\n",
        "[instance]\na = { umask = '0077' }\nb = {}\n",
        "[instance]\na.umask = '0077'\na.autostart = false\nb.umask = '0077'\n",
        "[instance.a]\r\numask = '0077'\r\n[instance.b]\r\n",
        "[instance.a]\n# next\n[instance.b]",
        "[ instance . \"a\" ]\numask = '0077'\n[instance.b]\n# end",
    ],
)
def test_every_notation(files, notation):
    """However the tables are written, one goes and one comes, and the rest says what it said."""
    files.write("jlabd.toml", f"daemon.include = ''\ndefaults = {{ user = '{ME}', allow_root = true }}\n{notation}")
    expected = tomllib.loads(files.main.read_text())
    remove(files.main, "a")
    del expected["instance"]["a"]
    assert tomllib.loads(files.main.read_text()) == expected
    assert ("# next" in files.main.read_text()) == ("# next" in notation)
    add(files.main, "new", {"umask": "0022"})
    expected["instance"]["new"] = {"umask": "0022"}
    assert tomllib.loads(files.main.read_text()) == expected


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "# last words", "# last words\n"])
def test_added_at_the_end(files, ending):
    """The new table follows after one empty line, with every kind of value written so that it is read back."""
    files.write_main(HEAD + ending)
    values = {"umask": "0022", "env": {"A": 'b "c" ü\n', "x.y": "1"}, "args": ["--x", "'"], "listen": 8888}
    place = add(files.main, "a.b", values)
    text = files.main.read_text()
    before = HEAD + ending
    before += "" if before.endswith("\n") else "\n"
    assert text.startswith(before + ("" if before.endswith("\n\n") else "\n") + '[instance."a.b"]\n')
    assert tomllib.loads(text)["instance"] == {"a.b": values}
    assert text.split("\n")[place.line - 1] == '[instance."a.b"]'
    assert place.file == str(files.main)


def test_added_once(files):
    """A name that is there, also in an included file or one with a mistake, is not added again."""
    files.write_main(f"[daemon]\ninclude = '{files.folder}/d/*.toml'\n[defaults]\nuser = '{ME}'\nallow_root = true\n")
    files.write("d/a.toml", "[instance.a]\nnonsense = 1\n")
    with pytest.raises(ConfigError, match=r"'a' is defined already, at .*/d/a.toml:1"):
        add(files.main, "a", {})


def test_removed_from_the_file_that_has_it(files):
    """The included file is changed, not the main one; a mistake in it that is older does not matter elsewhere."""
    files.write_main(f"[daemon]\ninclude = '{files.folder}/d/*.toml'\n[defaults]\nuser = '{ME}'\nallow_root = true\n")
    before = files.main.read_text()
    included = files.write("d/a.toml", "# hers\n\n[instance.a]\n[instance.b]\n")
    files.write("d/z.toml", "nonsense")
    assert str(remove(files.main, "a")) == f"{included}:3"
    assert included.read_text() == "# hers\n\n[instance.b]\n"
    assert files.main.read_text() == before
    with pytest.raises(ConfigError, match=r"no file has a table \[instance.bb\]; did you mean 'b'\?"):
        remove(files.main, "bb")


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("a/b", {}, "cannot be a name"),
        ("b", {"usr": "x"}, "did you mean user?"),
        ("b", {"venv": "opt"}, "is not an absolute path"),
        ("b", {"listen": 8888}, "port 8888 is taken by instance a"),
    ],
)
def test_nothing_wrong_is_written(files, name, values, said):
    """What the daemon would refuse is refused now, in its words, and the file stays as it was."""
    files.write_main(f"{HEAD}[instance.a]\nlisten = 8888\n")
    before = files.main.read_text()
    with pytest.raises(ConfigError) as told:
        add(files.main, name, values)
    assert said in str(told.value)
    assert files.main.read_text() == before


def test_what_would_harm_another_file_is_refused(files):
    """A new instance may not take from one in an included file what that one has."""
    head = f"[daemon]\ninclude = '{files.folder}/d/*.toml'\n[defaults]\nuser = '{ME}'\nallow_root = true\n"
    files.write_main(head)
    files.write("d/a.toml", "[instance.a]\nlisten = 8888\n")
    with pytest.raises(ConfigError, match="port 8888 is taken by instance new"):
        add(files.main, "new", {"listen": 8888})
    assert files.main.read_text() == head


def test_somebody_elses_change_is_not_lost(files):
    """Who saves the file while it is judged wins."""
    files.write_main(HEAD)

    def compose(source):
        files.main.write_text(source.text + "# saved in an editor\n")
        return source.text + "# ours\n"

    with pytest.raises(ConfigError, match="was changed by somebody else"):
        rewrite(files.main, compose)
    assert files.main.read_text() == HEAD + "# saved in an editor\n"
