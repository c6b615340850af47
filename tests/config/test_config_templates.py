"""Templates: one instance for each of some users."""

import grp
import os
import pwd

import pytest

from jlabd.config.accounts import SystemAccounts

STUDENTS = """\
[defaults]
user = "somebody"
env = { ME = "{user}" }
[template.student]
unix_group = "students"
root_dir = "{home}/notebooks"
server_name = "{user}.example.com"
env = { JSON = '{"a": {}}', SHELL_LIKE = "${other}", OWN = "{user}:{home}" }
"""


def test_one_for_each(files):
    """Each member of the group has an instance of her name, {user} and {home} filled in, other braces left alone."""
    found = files.load(STUDENTS, uid=0).configuration.instances
    assert list(found) == ["ann", "bob"]
    bob = found["bob"]
    assert (bob.name, bob.user, bob.root_dir) == ("bob", "bob", "/srv/home/bob/notebooks")
    assert (bob.server_name, bob.base_url) == ("bob.example.com", "/")
    expected = {"ME": "bob", "JSON": '{"a": {}}', "SHELL_LIKE": "${other}", "OWN": "bob:/srv/home/bob"}
    assert dict(bob.env) == expected


def test_users(files):
    """A list of users works as a group does; one who does not exist is not judged here."""
    found = files.load("[template.x]\nusers = ['ann', 'ghost']\nroot_dir = '{home}/x'\n", uid=0).configuration.instances
    assert {name: spec.user for name, spec in found.items()} == {"ann": "ann", "ghost": "ghost"}
    assert found["ghost"].root_dir == "/nonexistent/x"


def test_an_instance_of_her_own(files):
    """A user of a template who has a table of her own gets that one, wherever it stands."""
    found = files.load(
        STUDENTS + "[instance.ann]\nuser = 'ann'\nroot_dir = '/srv/ann'\n", uid=0
    ).configuration.instances
    assert (found["ann"].root_dir, found["bob"].root_dir) == ("/srv/ann", "/srv/home/bob/notebooks")


def test_nobody(files):
    """A group without members, or an empty list, makes no instance and is no problem."""
    text = "[template.a]\nunix_group = 'none'\n[template.b]\nusers = []\n"
    assert dict(files.load(text, uid=0).configuration.instances) == {}


def test_placeholders_of_commands(files):
    """A command of a template has its own placeholders too."""
    command = "command = ['/x', '{port}', '{socket}', '{base_url}', '{user}']\nargs = ['{port}']\n"
    text = f"[template.a]\nusers = ['ann']\n{command}"
    spec = files.instance(text, "ann", uid=0)
    assert spec.command == ("/x", "{port}", "{socket}", "{base_url}", "ann")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", ':1: template.t: stands for nobody, write users = ["NAME"] or unix_group = "NAME"'),
        ("users = ['ann']\nunix_group = 'x'", ":3: template.t.unix_group: cannot be used together with users"),
        ("unix_group = 'gone'", ":2: template.t.unix_group: there is no group 'gone' on this machine, create it"),
        ("users = 'ann'", ":2: template.t.users: must be a list"),
        ("users = ['ann',\n'b c']", ":3: template.t.users[1]: 'b c' cannot be an account"),
        ("users = ['ann',\n'ann']", ":3: template.t.users[1]: 'ann' is named twice"),
        ("users = ['ann']\nuser = 'x'", ":3: template.t.user: does not belong into a template"),
        (
            "users = ['ann']\nroot_dir = '{hom}/x'",
            ":3: template.t.root_dir: {hom} is a placeholder that nothing fills in",
        ),
        ("users = ['ann']\nargs = ['{port}']", ":3: template.t.args[0]: holds a placeholder that nothing fills in"),
        ("users = ['ann']\nroot_dir = '{user}/x'", ":3: template.t.root_dir: 'user/x' is not an absolute path"),
        ("users = ['ann', 'bob']\numask = '9'", ":3: template.t.umask: '9' is not a umask"),
        ("users = ['ann', 'bob']\nlisten = 8888", ":3: template.t.listen: port 8888 is taken by instance ann"),
        ("users = ['ann', 'bob']\nbase_url = '/x/'", ":3: template.t.base_url: '/x/' is taken by instance ann"),
        ("users = ['ann', 'EX\\a']", ":1: template.t: 'EX\\\\a' cannot be a name"),
        ("users = ['root']", ":1: template.t.user: 'root' could do anything"),
    ],
)
def test_what_is_wrong_with_a_template(files, keys, expected):
    """What is wrong with a template is told once, at its own lines."""
    [told] = files.check(f"[template.t]\n{keys}\n", uid=0)
    assert told.startswith(f"jlabd.toml{expected}"), told


def test_two_templates_for_one(files):
    """A user of two templates is a problem, until a table of her own decides."""
    text = "[template.a]\nusers = ['ann']\n[template.b]\nusers = ['ann', 'bob']\n"
    [told] = files.check(text, uid=0)
    assert told.startswith("jlabd.toml:3: template.b: makes an instance ann as ")
    assert told.endswith("jlabd.toml:1 does; write [instance.ann] instead")
    assert files.check(text + "[instance.ann]\nuser = 'ann'\n", uid=0) == []


def test_placeholders_outside_of_templates(files):
    """What only templates fill in is refused as a path of an instance, at the defaults that have it."""
    [told] = files.check("[defaults]\nroot_dir = '{home}/x'\n[instance.a]\n[template.t]\nusers = []\n")
    assert told.startswith("jlabd.toml:2: defaults.root_dir: '{home}/x' is not an absolute path, {user} and {home} are")


def test_a_template_is_judged_without_users(files):
    """A mistake in a template is told also while its group is empty."""
    assert len(files.check("[template.a]\nunix_group = 'none'\numask = 'x'\n")) == 1


def test_real_accounts():
    """The machine's own accounts are found by group, primary members included, and by name."""
    me = pwd.getpwuid(os.getuid())
    accounts = SystemAccounts()
    assert me.pw_name in accounts.members(grp.getgrgid(me.pw_gid).gr_name)
    assert accounts.home(me.pw_name) == me.pw_dir
    with pytest.raises(KeyError):
        accounts.members("no-such-group")
    with pytest.raises(KeyError):
        accounts.home("no-such-user")
