"""Who may do what, from values alone."""

import pytest

from jlabd.control.authorize import OWNERS_VERBS, Caller, may, may_administer, redact

ROOT = Caller(0, 0, 1, "root", frozenset(), is_root=True, is_admin=True)
ADMIN = Caller(1000, 1000, 1, "adele", frozenset({1000, 99}), is_root=False, is_admin=True)
ALICE = Caller(1001, 1001, 1, "alice", frozenset({1001}), is_root=False, is_admin=False)
NOBODY = Caller(4444, 4444, 1, "uid 4444", frozenset({4444}), is_root=False, is_admin=False)
ALL_VERBS = sorted(OWNERS_VERBS | {"signal", "reload", "frobnicate"})


def test_owners_verbs_are_those_of_the_product_page():
    """What an instance's own user may do is a list, and grows by decision only."""
    assert sorted(OWNERS_VERBS) == ["events", "logs", "passwd", "restart", "start", "status", "stop", "url"]


@pytest.mark.parametrize("verb", ALL_VERBS)
@pytest.mark.parametrize("owner", ["alice", "bob", None])
def test_administrators_may_everything(verb, owner):
    """root and the members of admin_group control everybody's instances."""
    assert may(ROOT, verb, owner)
    assert may(ADMIN, verb, owner)
    assert may_administer(ROOT)
    assert may_administer(ADMIN)


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_ordinary_users(verb):
    """A user may do the owner's verbs to her own instances and nothing to others'."""
    assert may(ALICE, verb, "alice") is (verb in OWNERS_VERBS)
    assert not may(ALICE, verb, "bob")
    assert not may(ALICE, verb, None)
    assert not may(NOBODY, verb, "alice")
    assert not may_administer(ALICE)


DOCUMENT = {
    "version": "1",
    "config": {"path": "/etc/jlabd.toml", "error": "line 3: instance.bob.root_dir"},
    "nginx": {"ok": True, "error": None},
    "instances": [
        {"name": "alice", "state": "ready", "since": "s", "user": "alice", "pid": 1, "reason": "r"},
        {"name": "bob", "state": "failed", "since": "s", "user": "bob", "pid": 2, "reason": "/home/bob/secret"},
        {"name": "carl", "state": "ready", "since": "s", "user": None, "pid": 3, "reason": "r"},
    ],
}


def test_administrators_see_all():
    """Nothing is hidden from those who control everything."""
    assert redact(DOCUMENT, ADMIN) == DOCUMENT


def test_others_see_states_only():
    """Of others' instances a user sees name, state and since; the rest is null, and errors tell no details."""
    seen = redact(DOCUMENT, ALICE)
    hidden = {"since": "s", "user": None, "pid": None, "reason": None}
    assert seen["instances"] == [
        DOCUMENT["instances"][0],
        {"name": "bob", "state": "failed"} | hidden,
        {"name": "carl", "state": "ready"} | hidden,
    ]
    assert seen["config"]["path"] == "/etc/jlabd.toml"
    assert "bob" not in seen["config"]["error"]
    assert seen["nginx"] == DOCUMENT["nginx"]
