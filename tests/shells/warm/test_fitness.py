"""Which instances can be warm."""

import pytest

from jlabd.core.launch import Account, Launch
from jlabd.spec import InstanceSpec, UnixListen
from jlabd.warm.fitness import why_cold

ALICE = Account("alice", 1000, 1000, (1000,), "/home/alice", "/bin/sh")
ROOT = Account("root", 0, 0, (0,), "/root", "/bin/sh")


def judge(account=ALICE, env=(), **keys):
    launch = Launch(("python",), {"LANG": "C.UTF-8", **dict(env)}, "/", account, 0o077)
    return why_cold(InstanceSpec("a", UnixListen("/s"), **keys), launch, 4096)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({}, ""),
        ({"warm": False}, "warm = false"),
        ({"private_tmp": True}, "private_tmp takes rights"),
        ({"no_new_privileges": True}, ""),
        ({"account": ROOT}, ""),
        ({"open_files": 4096}, ""),
        ({"open_files": 4097}, "limits.open_files is above 4096"),
        ({"env": {"PYTHONPATH": "/x"}}, "env has PYTHONPATH"),
        ({"env": {"PYTHONHASHSEED": "0"}}, "env has PYTHONHASHSEED"),
        ({"env": {"PYTHONSTARTUP": "/x", "PYTHONNOUSERSITE": "1"}}, ""),
        ({"env": {"LD_LIBRARY_PATH": "/x"}}, "env has LD_LIBRARY_PATH"),
        ({"env": {"SSL_CERT_FILE": "/x"}}, "env has SSL_CERT_FILE"),
        ({"env": {"MALLOC_ARENA_MAX": "2"}}, "env has MALLOC_ARENA_MAX"),
        ({"env": {"MY_PYTHON": "x", "OLD_LIBRARY": "y"}}, ""),
        ({"env": {"LANG": "de_DE.ISO-8859-1"}}, "the locale de_DE.ISO-8859-1 is not UTF-8"),
        ({"env": {"LC_ALL": "en_US.utf8", "LANG": "de_DE"}}, ""),
        ({"env": {"LANG": "C"}}, ""),
    ],
)
def test_why_cold(keys, reason):
    """What counts only at an exec, or takes rights that a parent lacks, starts cold; everything else warm."""
    said = judge(**keys)
    assert said.startswith(reason) if reason else said == ""
