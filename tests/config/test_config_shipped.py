"""The file that is shipped explains itself, and works after filling in one name."""

import re
from pathlib import Path

import pytest

from jlabd.config.read import check, load
from jlabd.spec import DaemonSpec, InstanceSpec, NginxSpec, UnixListen

SHIPPED = Path(__file__).resolve().parents[2] / "etc/jlabd.toml"
SETTING = re.compile(r"^#(?=[a-z_]+ = |\[)", re.MULTILINE)


def test_as_shipped(files):
    """As it is shipped it is valid and starts nothing."""
    loaded = load(files.write("jlabd.toml", SHIPPED.read_bytes()), uid=0)
    assert (dict(loaded.configuration.instances), loaded.problems) == ({}, ())
    assert loaded.configuration.daemon == DaemonSpec()


def test_one_name(files):
    """With the example's lines uncommented and one name filled in, there is one instance, for that user."""
    text = SHIPPED.read_text()
    head, example = text.split("#[instance.first]\n")
    assert example == '#user = "NAME"\n'
    text = head + "[instance.first]\n" + example.removeprefix("#").replace("NAME", "alice")
    [spec] = load(files.write("jlabd.toml", text), uid=0).configuration.instances.values()
    assert (spec.name, spec.user, spec.base_url) == ("first", "alice", "/first/")


def test_every_default_is_true(files):
    """Each setting that is shown commented out has the value that holds without it."""
    text = SHIPPED.read_text()
    all_set, n = SETTING.subn("", text)
    configuration = load(files.write("jlabd.toml", all_set), uid=0).configuration
    names = configuration.nginx.server_names
    socket = UnixListen("/run/jlabd/sockets/first.sock")
    assert n > 30
    assert configuration.daemon == DaemonSpec()
    assert configuration.nginx == NginxSpec(server_names=names)
    expected = InstanceSpec("first", socket, user="NAME", base_url="/first/", hostnames=names)
    assert configuration.instances["first"] == expected


@pytest.mark.parametrize("example", ["template.student", "instance.alice"])
def test_the_examples_in_its_comments(files, example):
    """The examples in the comments are valid."""
    text = SHIPPED.read_text()
    block = re.search(rf"(?m)^#     \[{re.escape(example)}\]\n(?:#     .*\n)+", text)
    lines = re.sub(r"(?m)^#     ", "", block[0]).replace("argon2:…", "")
    files.write("jlabd.toml", text + lines)
    assert check(files.main, accounts=files.people, uid=0) == []
    files.write("jlabd.toml", text + lines.replace("root_dir", "rootdir"))
    assert len(check(files.main, accounts=files.people, uid=0)) == 1
