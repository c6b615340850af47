"""Reconcile: old and new specs make a plan."""

from __future__ import annotations

from dataclasses import replace

from jlabd.core.reconcile import Change, Plan, reconcile
from jlabd.spec import InstanceSpec, Limits, StopSpec, UnixListen


def spec(name: str, **changes: object) -> InstanceSpec:
    return replace(InstanceSpec(name, UnixListen(f"/s/{name}.sock")), **changes)


def test_plan_sorts_every_instance_into_one_group():
    """Added, changed, removed and untouched are told apart."""
    old = {"a": spec("a"), "b": spec("b"), "c": spec("c"), "d": spec("d")}
    new = {
        "e": spec("e"),
        "d": spec("d", root_dir="/srv", stop=StopSpec(timeout_s=3)),
        "c": spec("c", stop=StopSpec(timeout_s=3), limits=Limits(tasks_max=9)),
        "a": spec("a"),
    }
    expected = Plan(
        added=("e",),
        changed={"d": Change(("root_dir", "stop"), restart=True), "c": Change(("stop", "limits"), restart=False)},
        removed=("b",),
        untouched=("a",),
    )
    assert reconcile(old, new) == expected


def test_same_configuration_is_an_empty_plan():
    """A reload without a change touches nobody."""
    old = {"a": spec("a", env={"X": "1"})}
    assert reconcile(old, {"a": spec("a", env={"X": "1"})}) == Plan((), {}, (), ("a",))
