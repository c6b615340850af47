"""Users and groups by name."""

import grp
import os
import pwd

import pytest

from jlabd.processes.accounts import UnknownAccount, lookup


async def test_no_name_is_the_daemons_own_account():
    """Without a user it is the account that the daemon runs as, with the groups it has."""
    account = await lookup(None, None)
    assert (account.uid, account.home) == (os.geteuid(), pwd.getpwuid(os.geteuid()).pw_dir)
    assert set(account.groups) == {account.gid, *os.getgroups()}


async def test_supplementary_groups_are_the_users(monkeypatch):
    """Groups come from the system's whole data base, the main group among them."""
    account = await lookup("nobody", "mail")
    mail = grp.getgrnam("mail").gr_gid
    assert account.gid == mail
    assert set(account.groups) == set(os.getgrouplist("nobody", mail))


@pytest.mark.parametrize(("user", "group", "name"), [("no-such-user", None, "user"), ("nobody", "no-such", "group")])
async def test_unknown_names_are_refused_with_the_fix(user, group, name):
    """An unknown user or group is named, with the command that makes it."""
    with pytest.raises(UnknownAccount, match=f"There is no {name} “no-such.*{name}add no-such"):
        await lookup(user, group)


async def test_a_daemon_that_is_nobody_known(monkeypatch):
    """In a container the daemon may run as a number without a name."""
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    account = await lookup(None, None)
    assert (account.name, account.uid) == ("54321", 54321)
