"""Editing: comments and order stay, owner and mode too, and nothing wrong is ever written."""

import os
import pwd
import stat
import threading
import tomllib

import pytest

from jlabd.config.edit import set_value
from jlabd.config.problems import ConfigError

ME = pwd.getpwuid(os.geteuid()).pw_name
DEFAULTS = f"[defaults]\nuser = '{ME}'\nallow_root = true\n"
"""Valid for whoever runs the tests."""

TEXT = f"""\
{DEFAULTS}
# The machine of the physics group
[daemon]
include = ""   # nothing

[instance.alice]      # she
umask   = '0077'      # hers alone
restart = {{ initial = "1s", max = "60s" }}

# Bob is away
[instance.bob]
autostart = false

# the end
"""
HASH = "argon2:$argon2id$v=19$m=10240,t=10,p=8$c29tZXNhbHQ$aGFzaGhhc2hoYXNo"


def _lines_changed(files, before=TEXT):
    old, new = before.splitlines(), files.main.read_text().splitlines()
    return [line for line in new if line not in old], [line for line in old if line not in new]


def test_a_new_value(files):
    """A new key is added to its table, and not a letter of the rest changes."""
    files.write_main(TEXT)
    set_value(files.main, ("instance", "alice"), "password_hash", HASH)
    assert _lines_changed(files) == ([f'password_hash = "{HASH}"'], [])
    assert tomllib.loads(files.main.read_text())["instance"]["alice"]["password_hash"] == HASH
    assert "password_hash" not in tomllib.loads(files.main.read_text())["instance"]["bob"]


def test_another_value(files):
    """A value is replaced where it stands, with its comment kept; in an inline table too."""
    files.write_main(TEXT)
    set_value(files.main, ("instance", "alice"), "umask", "0022")
    assert _lines_changed(files) == (['umask   = "0022"      # hers alone'], ["umask   = '0077'      # hers alone"])
    set_value(files.main, ("instance", "alice", "restart"), "max", "9s")
    assert 'restart = { initial = "1s", max = "9s" }' in files.main.read_text()


def test_a_new_table(files):
    """A table that is not there is made at the end."""
    files.write_main(TEXT)
    set_value(files.main, ("instance", "carol"), "autostart", value=False)
    text = files.main.read_text()
    assert text.startswith(TEXT.rstrip("\n"))
    assert tomllib.loads(text)["instance"]["carol"] == {"autostart": False}


def test_a_table_in_an_empty_file(files):
    """The first instance of a file gets a table of its own."""
    files.write_main(DEFAULTS)
    set_value(files.main, ("instance", "a.b"), "autostart", value=False)
    assert '[instance."a.b"]' in files.main.read_text()


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        (("instance", "alice"), "umask", "999"),
        (("instance", "alice"), "password_hash", "hunter2"),
        (("instance", "alice"), "pasword_hash", HASH),
        (("instance", "alice", "umask"), "x", 1),
        (("instance", "a/b"), "autostart", False),
        (("elsewhere",), "x", 1),
    ],
)
def test_nothing_wrong_is_written(files, table, key, value):
    """What would make a problem is refused with it, secrets apart, and the file stays as it was."""
    files.write_main(TEXT)
    before = files.main.stat().st_mtime_ns, files.main.stat().st_ino
    with pytest.raises(ConfigError) as told:
        set_value(files.main, table, key, value)
    assert "hunter2" not in str(told.value)
    assert files.main.read_text() == TEXT
    assert (files.main.stat().st_mtime_ns, files.main.stat().st_ino) == before
    assert [path.name for path in files.folder.iterdir()] == ["jlabd.toml"]


@pytest.mark.parametrize("text", ["nonsense", b"\xff", "[instance.a]\numask = '9'\n"])
def test_broken_files_are_not_touched(files, text):
    """A file that has problems already is not edited."""
    path = files.write("jlabd.toml", text)
    before = path.read_bytes()
    with pytest.raises(ConfigError):
        set_value(path, ("instance", "a"), "autostart", value=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "notation",
    [
        "[instance]\na = { umask = '0077' }\n",
        "instance = { a = { umask = '0077' } }\n",
        "[instance.a.log]\nkeep = 1\n[instance.a]\numask = '0077'\n[nginx]\n[instance.b]\n",
        "[instance]\n[instance.'a']\n\"umask\" = '0077'",
        "[instance.a]\r\numask = '0077'\r\n# end\r\n",
    ],
)
@pytest.mark.parametrize("table", [("instance", "a"), ("instance", "new"), ("instance", "a", "stop")])
def test_every_notation(files, notation, table):
    """However the tables are written, the value comes where it belongs and nothing else changes."""
    files.write("jlabd.toml", f"daemon.include = ''\ndefaults = {{ user = '{ME}', allow_root = true }}\n{notation}")
    expected = tomllib.loads(files.main.read_text())
    key, value = ("timeout", 5) if table[-1] == "stop" else ("umask", "0022")
    set_value(files.main, table, key, value)
    for name in table[:-1]:
        expected = expected.setdefault(name, {})
    changed = tomllib.loads(files.main.read_text())
    for name in table:
        changed = changed[name]
    assert changed == expected.get(table[-1], {}) | {key: value}


def test_a_notation_that_is_too_unusual(files):
    """What the library for editing would write wrongly is refused, not written."""
    text = f"defaults.user = '{ME}'\ndefaults.allow_root = true\ndaemon.include = ''\ninstance.a.umask = '0077'\n"
    text += "instance.a.autostart = true\n"
    files.write("jlabd.toml", text)
    with pytest.raises(ConfigError, match="change it in an editor"):
        set_value(files.main, ("instance", "new"), "umask", "0077")
    assert files.main.read_text() == text
    set_value(files.main, ("instance", "a"), "umask", "0022")
    assert files.main.read_text() == text.replace("'0077'", '"0022"')


def test_missing_file(files):
    """A file that is not there is not made."""
    with pytest.raises(FileNotFoundError):
        set_value(files.main, ("instance", "a"), "autostart", value=False)


def test_mode_and_link_are_kept(files):
    """The mode stays as it was, and a link stays a link to the changed file."""
    real = files.write("real.toml", TEXT)
    real.chmod(0o640)
    files.main.symlink_to(real)
    set_value(files.main, ("instance", "alice"), "autostart", value=False)
    assert files.main.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert "autostart = false" in real.read_text().partition("[instance.bob]")[0]


@pytest.mark.root
def test_the_owner_is_kept(files):
    """The file belongs to whom it belonged."""
    files.write_main(TEXT)
    os.chown(files.main, 65534, 65534)
    set_value(files.main, ("instance", "alice"), "autostart", value=False)
    assert (files.main.stat().st_uid, files.main.stat().st_gid) == (65534, 65534)


def test_an_included_file(files):
    """An included file is judged together with its main file: defaults count, and so do the names of others."""
    files.write_main(f"[daemon]\ninclude = '{files.folder}/d/*.toml'\n{DEFAULTS}[instance.first]\nlisten = 8888\n")
    included = files.write("d/a.toml", "[instance.second]  # hers\n")
    broken = files.write("d/z.toml", "nonsense")
    set_value(included, ("instance", "second"), "listen", 8889, main=files.main)
    assert included.read_text() == "[instance.second]  # hers\nlisten = 8889\n"
    with pytest.raises(ConfigError, match="port 8888 is taken by instance first"):
        set_value(included, ("instance", "second"), "listen", 8888, main=files.main)
    assert broken.read_text() == "nonsense"


def test_readers_see_the_old_or_the_new(files):
    """Whoever reads while the file is changed sees a whole file."""
    files.write_main(TEXT)
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(files.main.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for keep in range(20):
            set_value(files.main, ("instance", "bob", "log"), "keep", keep)
    finally:
        done.set()
        reader.join()
    assert all(tomllib.loads(text)["instance"]["alice"]["umask"] == "0077" for text in seen)
