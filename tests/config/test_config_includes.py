"""Included files: more instances, and one bad file does not take the others down."""

import os
import pwd
from pathlib import Path

import pytest

from jlabd.config.problems import ConfigError
from jlabd.config.read import check, load
from tests.config.conftest import NOBODY, without_roots_rights


def _load(files, main="", uid=12345):
    files.write_main(f"[daemon]\ninclude = '{files.folder}/d/*.toml'\n{main}")
    return load(files.main, accounts=files.people, uid=uid)


def _instances(loaded):
    assert set(loaded.configuration.instances) == set(loaded.configuration.sources)
    return {name: Path(file).name for name, file in loaded.configuration.sources.items()}


def _broken(loaded):
    return {Path(file).name for file in loaded.broken_files}


def test_more_instances(files):
    """Files that match are read in the order of their names, and each instance has its source."""
    files.write("d/b.toml", "[instance.bob]\n")
    files.write("d/a.toml", "[instance.alice]\n[template.t]\nusers = []\n")
    files.write("d/.c.toml", "nonsense")
    files.write("d/c.toml.rpmsave", "nonsense")
    loaded = _load(files, "[defaults]\nvenv = '/opt/x'\n[instance.main]\n")
    assert _instances(loaded) == {"main": "jlabd.toml", "alice": "a.toml", "bob": "b.toml"}
    assert {spec.venv for spec in loaded.configuration.instances.values()} == {"/opt/x"}
    assert (loaded.problems, loaded.broken_files) == ((), frozenset())


@pytest.mark.parametrize(
    "bad",
    [
        "nonsense",
        b"\xff",
        "[instance.x]\numask = '9'\n[instance.y]\n",
        "[instance.'a/b']\n[instance.y]\n",
        "[instance.y]\n[daemon]\nlog_level = 'info'\n",
        "[instance.y]\n[nginx]\n",
        "[instance.y]\n[defaults]\n",
        "[instance.y]\n[other]\n",
        "[instance.main]\n[instance.y]\n",
        "[instance.early]\n[instance.y]\n",
        "[instance.y]\nlisten = 8888\n",
        "[instance.y]\nbase_url = '/main/x/'\n",
        "[instance.y]\n[template.t]\nunix_group = 'gone'\n",
        "[template.t]\nusers = ['y']\nlog.keep = -1\n",
    ],
)
def test_one_bad_file(files, bad):
    """Whatever is wrong with an included file, its instances are absent and the others are there."""
    files.write("d/a.toml", "[instance.early]\nlisten = 8888\n")
    files.write("d/b.toml", bad)
    files.write("d/c.toml", "[instance.late]\n[instance.listening]\nlisten = 8889\n")
    loaded = _load(files, "[instance.main]\n")
    assert _instances(loaded) == {"main": "jlabd.toml", "early": "a.toml", "late": "c.toml", "listening": "c.toml"}
    assert _broken(loaded) == {"b.toml"}
    assert {problem.file for problem in loaded.problems} == {str(files.folder / "d/b.toml")}
    assert check(files.main, accounts=files.people, uid=12345) == list(loaded.problems)


def test_what_is_not_allowed_there(files):
    """The tables of the main file are refused in an included one, and it is said which are allowed."""
    files.write("d/a.toml", "[defaults]\nvenv = '/x'\n[instence.x]\n")
    assert files.told(_load(files).problems) == [
        "d/a.toml:1: defaults: does not belong into an included file, which has [instance.*] and [template.*] only",
        "d/a.toml:3: instence: is unknown, did you mean instance?",
    ]


def test_twice_in_two_files(files):
    """Of two definitions of a name the later one is wrong, and it is said where the first is."""
    files.write("d/a.toml", "# a\n[instance.x]\n")
    files.write("d/b.toml", "[instance.y]\n[instance.x]\n")
    loaded = _load(files)
    assert _instances(loaded) == {"x": "a.toml"}
    [told] = files.told(loaded.problems)
    assert told == "d/b.toml:2: instance.x: is defined already in d/a.toml:2; keep one"


def test_a_broken_file_keeps_its_names_and_ports(files):
    """What a broken file defines is not given to a later file: its instances may still run as they were."""
    files.write("d/a.toml", "[instance.x]\nlisten = 8888\n[instance.wrong]\numask = '9'\n")
    files.write("d/b.toml", "[instance.x]\n")
    files.write("d/c.toml", "[instance.z]\nlisten = 8888\n")
    files.write("d/d.toml", "[template.t]\nusers = ['x', 'ok']\n")
    loaded = _load(files)
    assert _broken(loaded) >= {"a.toml", "b.toml", "c.toml"}
    assert "x" not in loaded.configuration.instances


def test_a_bad_main_file(files):
    """A mistake in the main file makes everything unusable, and the problems of all files are told."""
    files.write("d/a.toml", "[instance.x]\numask = '9'\n")
    with pytest.raises(ConfigError) as told:
        _load(files, "[instance.main]\nlisten = 'x'\n")
    assert [Path(problem.file).name for problem in told.value.problems] == ["jlabd.toml", "a.toml"]


def test_a_mistake_in_the_defaults(files):
    """What an included instance inherits wrongly is a problem of the main file, where it stands."""
    files.write("d/a.toml", "[instance.x]\n")
    with pytest.raises(ConfigError) as told:
        _load(files, "[defaults]\numask = '9'\n")
    assert [Path(problem.file).name for problem in told.value.problems] == ["jlabd.toml"]


@pytest.mark.parametrize(
    ("defaults", "key"),
    [("listen = 8888", "listen"), ("base_url = '/z/'", "base_url"), ("root_dir = '{home}/x'", "root_dir")],
)
def test_inheriting_what_is_taken(files, defaults, key):
    """What goes wrong only because an included instance inherits it does not make the main file unusable."""
    files.write("d/a.toml", "# x\n[instance.x]\n")
    loaded = _load(files, f"[defaults]\n{defaults}\n[instance.main]\nlisten = 8888\nbase_url = '/z/'\nroot_dir = ''\n")
    assert _instances(loaded) == {"main": "jlabd.toml"}
    [told] = files.told(loaded.problems)
    assert told.startswith(f"d/a.toml:2: instance.x.{key}: ")
    assert told.endswith(f" (inherited from defaults.{key})")


def test_templates_of_the_main_file_come_first(files):
    """An instance of an included file cannot take what a template of the main file has."""
    people = "[template.t]\nusers = ['nobody']\nlisten = 8888\nbase_url = '/z/'\n"
    files.write("d/a.toml", "[instance.x]\nlisten = 8888\n[instance.y]\nbase_url = '/z/'\n")
    loaded = _load(files, people, uid=pwd.getpwnam("nobody").pw_uid)
    assert _instances(loaded) == {"nobody": "jlabd.toml"}
    assert [problem.key for problem in loaded.problems] == ["instance.x.listen", "instance.y.base_url"]


def test_a_folder_that_cannot_be_read(public_files):
    """A folder that may not be read is told, not taken for an empty one."""
    folder = public_files.write("d/a.toml", "[instance.x]\n").parent
    folder.chmod(0o755)
    assert _instances(_load(public_files)) == {"x": "a.toml"}
    folder.chmod(0)
    refused = pytest.raises(ConfigError, match=r"jlabd.toml:2: daemon.include: the folder of .* cannot be read")
    with without_roots_rights(), refused:
        load(public_files.main, accounts=public_files.people, uid=NOBODY)
    folder.chmod(0o700)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("'d/*.toml'", "jlabd.toml:2: daemon.include: 'd/*.toml' is not an absolute path, write it from / on"),
        ("5", "jlabd.toml:2: daemon.include: 5 is not a path"),
        ("'/no/such/folder/a.toml'", "/no/such/folder/a.toml: cannot be read: No such file or directory"),
    ],
)
def test_bad_patterns(files, pattern, expected):
    """A pattern that cannot work is told; a single file that is named must be there."""
    [told] = files.check(f"[daemon]\ninclude = {pattern}\n")
    assert told.startswith(expected)


@pytest.mark.parametrize("pattern", ["''", "'/no/such/folder/*.toml'"])
def test_nothing_to_include(files, pattern):
    """Without a pattern, or without the folder, nothing is included."""
    assert files.check(f"[daemon]\ninclude = {pattern}\n") == []


def test_the_main_file_does_not_include_itself(files):
    """A pattern that matches the main file too does not read it twice."""
    files.write("other.toml", "[instance.x]\n")
    text = f"[daemon]\ninclude = '{files.folder}/*.toml'\n[instance.main]\n"
    assert set(files.load(text).configuration.instances) == {"main", "x"}


@pytest.mark.root
def test_files_of_others(files):
    """A daemon of root takes no file that another user owns or everybody can write, but a link to one of root's."""
    files.write("d/good.toml", "[instance.good]\nuser = 'x'\n")
    files.write("elsewhere.toml", "[instance.linked]\nuser = 'x'\n")
    (files.folder / "d/linked.toml").symlink_to(files.folder / "elsewhere.toml")
    owned = files.write("d/owned.toml", "[instance.owned]\nuser = 'x'\n")
    open_to_all = files.write("d/writable.toml", "[instance.writable]\nuser = 'x'\n")
    (files.folder / "d/folder.toml").mkdir()
    (files.folder / "d/dangling.toml").symlink_to("/nowhere")
    os.chown(owned, 65534, -1)
    open_to_all.chmod(0o666)
    loaded = _load(files, uid=0)
    assert set(loaded.configuration.instances) == {"good", "linked"}
    assert files.told(loaded.problems) == [
        "d/dangling.toml: cannot be read: No such file or directory",
        "d/folder.toml: is a folder, not a file",
        "d/owned.toml: belongs to another user and the daemon runs as root; run chown root on it",
        "d/writable.toml: can be written by everybody and the daemon runs as root; run chmod o-w on it",
    ]
