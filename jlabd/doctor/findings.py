"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How bad it is."""

    GOOD = "ok"
    ADVICE = "advice"
    """Works, but would work better."""
    UNKNOWN = "unknown"
    """Could not be looked at."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    grade: Grade
    subject: str
    """What it is about, in one or two words."""
    sentence: str
    """What is the case."""
    fix: str = ""
    """What to do about it; empty when nothing is to be done."""


def good(subject: str, sentence: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(Grade.GOOD, subject, sentence)


def advice(subject: str, sentence: str, fix: str) -> Finding:
    """Return a finding that could be better."""
    return Finding(Grade.ADVICE, subject, sentence, fix)


def unknown(subject: str, sentence: str, fix: str = "") -> Finding:
    """Return a finding about what could not be looked at."""
    return Finding(Grade.UNKNOWN, subject, sentence, fix)


def wrong(subject: str, sentence: str, fix: str) -> Finding:
    """Return a finding that has to be mended."""
    return Finding(Grade.WRONG, subject, sentence, fix)
