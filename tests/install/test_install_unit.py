"""`jlabctl install-unit`: what it writes, what it leaves alone, and what it takes away again."""

from pathlib import Path

import pytest

from jlabd.install import place, work
from jlabd.install.place import Installation, NotInstalledError, Planned
from tests.house.tree import TOP

PROGRAMS = Path("/opt/my jlabd/bin")


@pytest.fixture
def installation(tmp_path):
    """An installation with the files that we ship."""
    shared = tmp_path / "share"
    shared.mkdir()
    for name in (
        "packaging/jlabd.service",
        "packaging/jlabd-labs.service",
        "packaging/rpm/nginx.conf",
        "etc/jlabd.toml",
    ):
        (shared / Path(name).name).write_text((TOP / name).read_text())
    return Installation(PROGRAMS, shared)


@pytest.fixture
def root(tmp_path):
    """A system like Debian's, empty but for what is always there."""
    for folder in ("etc/systemd/system", "etc/nginx/conf.d", "usr/lib/systemd/system", "usr/local/bin"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    (tmp_path / "root/etc/group").write_text("root:x:0:\nwww-data:x:33:\n")
    return tmp_path / "root"


def install(installation, root):
    """Install; return what was said."""
    return list(work.install(list(place.plan(installation, root)), installation, root))


def test_what_is_written(installation, root):
    """Units that start this jlabd, nginx's include, a configuration that fits this system, and a link to jlabctl."""
    install(installation, root)
    unit = (root / "etc/systemd/system/jlabd.service").read_text()
    assert 'ExecStart="/opt/my jlabd/bin/jlabd"\n' in unit
    assert 'ExecReload="/opt/my jlabd/bin/jlabctl" reload\n' in unit
    assert "/usr/bin/jlab" not in unit
    assert (root / "etc/systemd/system/jlabd-labs.service").exists()
    assert "jlabd.con[f]" in (root / "etc/nginx/conf.d/jlabd.conf").read_text()
    config = root / "etc/jlabd.toml"
    assert '\ngroup = "www-data"\n' in config.read_text()
    assert f"\n#:schema {(installation.shared / 'jlabd.schema.json').as_uri()}\n" in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o600
    assert (root / "etc/jlabd.d").stat().st_mode & 0o777 == 0o700
    assert (root / "usr/local/bin/jlabctl").readlink() == PROGRAMS / "jlabctl"


def test_without_nginx(installation, root):
    """Where nginx is not installed nothing is written for it."""
    (root / "etc/nginx/conf.d").rmdir()
    (root / "etc/nginx").rmdir()
    install(installation, root)
    assert not (root / "etc/nginx").exists()


def test_again(installation, root):
    """Twice is as good as once; a newer version replaces what nobody edited."""
    install(installation, root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert all(said.startswith("is there") for said in install(installation, root))
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    with (installation.shared / "jlabd.service").open("a") as unit:
        unit.write("# new in this version\n")
    assert "updated  /etc/systemd/system/jlabd.service" in install(installation, root)
    assert "new in this version" in (root / "etc/systemd/system/jlabd.service").read_text()


def test_configuration_is_the_administrators(installation, root):
    """A configuration that is there is never touched, edited or not."""
    (root / "etc/jlabd.toml").write_text("# mine\n")
    assert "is there /etc/jlabd.toml" in install(installation, root)
    list(work.uninstall(root))
    assert (root / "etc/jlabd.toml").read_text() == "# mine\n"


@pytest.mark.parametrize("how", ["edited", "foreign", "masked"])
def test_what_was_edited(installation, root, how):
    """A file that is not as we wrote it is told; only when asked for is it replaced, and what it was is kept."""
    install(installation, root)
    unit = root / "etc/systemd/system/jlabd.service"
    if how == "masked":
        unit.unlink()
        unit.symlink_to("/dev/null")
    else:
        unit.write_text(unit.read_text() + "# mine\n" if how == "edited" else "[Service]\n")
    planned = list(place.plan(installation, root))
    assert work.edited(planned, root) == ["/etc/systemd/system/jlabd.service"]
    said = list(work.uninstall(root))
    assert "left     /etc/systemd/system/jlabd.service: it was edited; remove it yourself" in said
    assert any("replaced" in sentence for sentence in install(installation, root))
    assert work.edited(planned, root) == []
    old = unit.with_name("jlabd.service.old")
    assert old.is_symlink() if how == "masked" else "mine" in old.read_text() or old.read_text() == "[Service]\n"


def test_uninstall(installation, root):
    """Everything goes but the configuration."""
    install(installation, root)
    (root / "etc/nginx/jlabd.d/generations").mkdir()
    list(work.uninstall(root))
    left = sorted(str(path.relative_to(root)) for path in root.rglob("*") if "jlab" in path.name)
    assert left == ["etc/jlabd.d", "etc/jlabd.toml"]
    assert list(work.uninstall(root)) == []


def test_beside_a_package(installation, root):
    """Where a package brought the units, ours would go before them: refused."""
    work.refuse_beside_package(root)
    (root / "usr/lib/systemd/system/jlabd.service").write_text("")
    with pytest.raises(NotInstalledError, match="installed from a package"):
        work.refuse_beside_package(root)


@pytest.mark.root
def test_programs_that_others_can_change(tmp_path):
    """What root is to run must be root's alone, with every folder on the way."""
    program = tmp_path / "jlabd"
    program.write_text("")
    work.refuse_what_others_can_change([program])
    program.chmod(0o666)
    with pytest.raises(NotInstalledError, match="can be written by others"):
        work.refuse_what_others_can_change([program])


def test_words_of_units():
    """What systemd would understand in a path is written so that it does not."""
    unit = place.with_programs("ExecStart=/usr/bin/jlabd\n", Path("/opt/100% $HOME"))
    assert unit == 'ExecStart="/opt/100%% $$HOME/jlabd"\n'


def test_checkout_is_no_installation():
    """A checkout has no files to install from, and says what to do."""
    with pytest.raises(NotInstalledError, match="pip install"):
        place.find()


def test_mark():
    """The first line tells whether somebody edited the rest."""
    text = Planned("/x", "[Unit]\n").marked
    assert place.is_as_written(text)
    assert not place.is_as_written(text + " ")
    assert not place.is_as_written("[Unit]\n")
