"""How an instance stands, and how that is put to a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from jlabd.core.state import Actual


@dataclass(frozen=True, slots=True)
class Standing:
    """How an instance stands: its state, and the reason in a sentence; the rest is for the page. Times in seconds."""

    state: str
    reason: str
    since_s: float = 0.0
    """For how long it has been in this state."""
    base_url: str = "/"
    user: str = ""
    expected_s: float | None = None
    """How long the last start took; None if that is not known."""
    next_start_s: float | None = None
    """In a backoff: when the next attempt is due."""
    will_wake: bool = False
    """The next visit starts it."""
    owner_hint: str = ""
    """What else the owner might want to know, in a sentence."""


class Mood(StrEnum):
    """What a visitor may expect."""

    WAIT = "wait"  # it comes by itself
    REST = "rest"  # somebody has to want it
    FAULT = "fault"  # something has to be mended


@dataclass(frozen=True, slots=True)
class Hint:
    """Something that the visitor can do; perhaps by a command."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """A standing in words."""

    mood: Mood
    headline: str
    detail: str
    action: str
    """What the button says; nothing if there is nothing to be done."""
    hints: tuple[Hint, ...] = ()
    again_s: float = 10.0
    """When an open page asks again at the earliest, and …"""
    at_most_s: float = 60.0
    """… to how much that may grow."""


def tell(name: str, standing: Standing, *, woken: bool = False) -> Story:
    """Put into words how the instance `name` stands. `woken`: the visitor has just asked for it."""
    match _actual(standing.state):
        case Actual.STARTING | Actual.READY | Actual.UNHEALTHY:
            return _starting(name, standing)
        case Actual.STOPPING:
            return Story(Mood.WAIT, f"{name} is stopping", "Its programs are being ended.", "", (), 1, 5)
        case Actual.BACKOFF:
            return _backoff(name, standing)
        case Actual.IDLE if woken and standing.will_wake:
            return _starting(name, standing)
        case Actual.IDLE:
            return _asleep(name, standing)
        case Actual.STOPPED:
            detail = "Nothing of it runs, and nothing starts it until somebody asks for it."
            return Story(Mood.REST, f"{name} is stopped", detail, "Look again", tuple(_start(name, standing)))
        case Actual.FAILED:
            return _failed(name, standing)
        case None:
            return Story(Mood.WAIT, f"{name} does not answer yet", "", "Look again", (), 2, 30)
        case unknown:
            assert_never(unknown)


def _actual(state: str) -> Actual | None:
    return Actual(state) if state in Actual.__members__.values() else None


def _starting(name: str, standing: Standing) -> Story:
    detail = "This page goes on to it by itself as soon as it answers."
    if standing.state == Actual.STARTING and standing.since_s > 3 * max(standing.expected_s or 0, 10):
        detail = f"It takes longer than usual. {detail}"
    return Story(Mood.WAIT, f"{name} is starting", detail, "", (), 0.25, 2)


def _backoff(name: str, standing: Standing) -> Story:
    again_s = 2.0 if standing.next_start_s is None else min(max(standing.next_start_s, 0.5), 5)
    hints = (Hint("Its owner can see what it said", f"jlabctl logs {name}"), *_start(name, standing, "at once"))
    detail = "Its last start did not last. It is tried again by itself, and this page goes on to it then."
    return Story(Mood.WAIT, f"{name} will be started again", detail, "", hints, again_s, 5)


def _asleep(name: str, standing: Standing) -> Story:
    if standing.will_wake:
        return Story(Mood.REST, f"{name} is asleep", "Nobody has used it for a while.", f"Start {name}", (), 5, 60)
    detail = "Nothing of it runs at the moment."
    return Story(Mood.REST, f"{name} is asleep", detail, "Look again", tuple(_start(name, standing)))


def _failed(name: str, standing: Standing) -> Story:
    hints = [Hint("See what it said", f"jlabctl logs {name}"), *_start(name, standing, "again")]
    if standing.owner_hint:
        hints.insert(0, Hint(standing.owner_hint))
    hints.append(Hint("Or ask the administrator of this machine."))
    detail = "It is not tried again by itself: the cause has to be removed first."
    return Story(Mood.FAULT, f"{name} could not be started", detail, "Look again", tuple(hints))


def _start(name: str, standing: Standing, how: str = "") -> Iterator[Hint]:
    who = f"{standing.user} or an administrator" if standing.user else "Its owner or an administrator"
    yield Hint(f"{who} can start it {how}".rstrip(), f"jlabctl start {name}")
