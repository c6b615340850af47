"""The SELinux context of a lab: that of a login, found as pam_selinux finds it."""

import pytest

from jlabd.core.launch import Account
from jlabd.processes import accounts, selinux
from jlabd.processes.spawn import SpawnError

# As in Enterprise Linux 9 and 10, shortened.
SEUSERS = """
# of users
root:unconfined_u:s0-s0:c0.c1023
ann:staff_u:s0-s0:c0.c1023
%nogroup:user_u:s0
__default__:unconfined_u:s0-s0:c0.c1023
"""
DEFAULTS = """
system_r:crond_t:s0\t\tsystem_r:system_cronjob_t:s0 unconfined_r:unconfined_t:s0
system_r:sshd_t:s0\t\tuser_r:user_t:s0 sysadm_r:sysadm_t:s0 staff_r:staff_t:s0 unconfined_r:unconfined_t:s0
"""
STAFF = "system_r:sshd_t:s0\t\tstaff_r:staff_t:s0 sysadm_r:sysadm_t:s0\n"
VALID = {
    "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023",
    "staff_u:staff_r:staff_t:s0-s0:c0.c1023",
    "staff_u:sysadm_r:sysadm_t:s0-s0:c0.c1023",
    "user_u:user_r:user_t:s0",
}


@pytest.fixture
def policy(tmp_path):
    """The folder of a policy's lists."""
    (tmp_path / "contexts/users").mkdir(parents=True)
    (tmp_path / "seusers").write_text(SEUSERS)
    (tmp_path / "contexts/default_contexts").write_text(DEFAULTS)
    (tmp_path / "contexts/users/staff_u").write_text(STAFF)
    return tmp_path


@pytest.mark.parametrize(
    ("user", "groups", "context"),
    [
        ("bob", [100], "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"),
        ("ann", [100], "staff_u:staff_r:staff_t:s0-s0:c0.c1023"),
        ("eve", [100, 65534], "user_u:user_r:user_t:s0"),
        ("ann", [65534], "staff_u:staff_r:staff_t:s0-s0:c0.c1023"),
    ],
)
def test_context_of_a_login(policy, user, groups, context):
    """By name, by group or by default; the list of the SELinux user goes before the common one."""
    assert selinux.first_valid(policy, user, groups, VALID.__contains__) == context


def test_nothing_valid(policy):
    """Where the policy knows none of the contexts, none is chosen."""
    assert selinux.first_valid(policy, "bob", [], set().__contains__) == ""


def test_policy_without_lists(tmp_path):
    """A policy without lists, or without levels, is no reason to fail."""
    assert selinux.first_valid(tmp_path, "bob", [], VALID.__contains__) == ""
    (tmp_path / "seusers").write_text("__default__:user_u\n")
    (tmp_path / "contexts").mkdir()
    (tmp_path / "contexts/default_contexts").write_text("system_r:sshd_t user_r:user_t\n")
    assert selinux.first_valid(tmp_path, "bob", [], {"user_u:user_r:user_t"}.__contains__) == "user_u:user_r:user_t"


@pytest.mark.parametrize(
    ("config", "name"),
    [("SELINUX=enforcing\nSELINUXTYPE=mls\n", "mls"), ("# SELINUXTYPE=no\n", "targeted"), ("", "targeted")],
)
def test_name_of_the_policy(config, name):
    """The folder that is in use is the one that /etc/selinux/config names."""
    assert selinux.policy_name(config) == name


async def test_elsewhere_labs_stay_where_the_daemon_is():
    """Without a domain of its own jlabd chooses no context."""
    assert selinux.own_type() != selinux.OURS
    assert (await accounts.lookup("nobody", None)).context == ""


async def test_nobody_to_become(policy, monkeypatch):
    """With a domain of its own jlabd starts nothing for a user without a context: it would run where jlabd does."""
    monkeypatch.setattr(selinux, "own_type", lambda: selinux.OURS)
    monkeypatch.setattr(selinux, "_CONFIG", policy.parent)
    (policy.parent / "config").write_text(f"SELINUXTYPE={policy.name}\n")
    monkeypatch.setattr(selinux, "_is_valid", set().__contains__)
    with pytest.raises(accounts.UnknownAccount, match="SELinux has no context for user “nobody”"):
        await accounts.lookup("nobody", None)
    monkeypatch.setattr(selinux, "_is_valid", VALID.__contains__)
    assert (await accounts.lookup("nobody", None)).context == "user_u:user_r:user_t:s0"


@pytest.mark.root
async def test_context_that_is_refused(starter, nobody):
    """A context that the kernel does not take stops the start, and the sentence names it."""
    account = Account("nobody", nobody.uid, nobody.gid, (nobody.gid,), "/", "/bin/sh", "user_u:user_r:none_t:s0")
    with pytest.raises(SpawnError) as caught:
        await starter.spawn(starter.launch("tells.py", account=account))
    assert "SELinux does not let jlabd start programs as user_u:user_r:none_t:s0" in caught.value.reason
