"""The table of `jlabctl status` and the texts in it, from values alone."""

from datetime import UTC, datetime

import pytest

from jlabd.ctl.table import remarks, table
from jlabd.ctl.text import duration, pad, safe, shorten, size, width

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ALICE = {
    "name": "alice",
    "state": "ready",
    "since": "2026-03-01T08:47:59.000Z",
    "pid": 4711,
    "user": "alice",
    "kernels": 2,
    "cpu_percent": 12.3,
    "memory_bytes": 87 * 2**20,
    "restarts": 0,
    "url": "http://lab.example.com/alice/",
    "reason": "ready after 1.2 s",
}
HIDDEN = dict.fromkeys(ALICE) | {"name": "bob", "state": "failed", "since": "2026-03-01T11:59:55.000Z"}


def _table(*instances, columns=None, colour=False):
    return table({"instances": list(instances)}, NOW, columns, colour=colour)


def test_columns_are_aligned():
    """The table has the columns of the product page, numbers to the right, and - for what is not known."""
    assert _table(ALICE | {"reason": "answers"}, HIDDEN).splitlines() == [
        "NAME   STATE   SINCE      PID  USER   KERNELS  CPU  MEMORY  RESTARTS  URL                            REASON",
        "alice  ready   3h 12min  4711  alice        2  12%     87M         0  http://lab.example.com/alice/  answers",
        "bob    failed  5s           -  -            -    -       -         -  -                              -",
    ]


def test_why_a_lab_is_not_warm():
    """A running lab that had to start cold says why; not one that was meant to."""
    cold = ALICE | {"launcher_reason": "importing it starts a thread"}
    assert "ready after 1.2 s (cold: importing it starts a thread)" in _table(cold)
    assert "cold" not in _table(ALICE | {"launcher_reason": "warm = false"})
    assert "cold" not in _table(cold | {"pid": None, "state": "stopped"})


def test_no_instances():
    """An empty table says so."""
    assert _table() == "no instances\n"


@pytest.mark.parametrize("columns", range(1, 200))
def test_width_of_the_terminal_is_respected(columns):
    """No line is longer than the terminal is wide, whatever the width, also with wide characters."""
    lines = _table(ALICE | {"reason": "重启" * 60, "name": "a" * 30}, HIDDEN, columns=columns).splitlines()
    assert len(lines) == 3
    assert max(width(line) for line in lines) <= max(columns, 30 + 2 + 6)


def test_eighty_columns_keep_what_matters():
    """On a small terminal name, state, since, address and reason remain."""
    head, alice = _table(ALICE | {"reason": "it crashed " * 9}, columns=80).splitlines()
    assert [word for word in ("NAME", "STATE", "SINCE", "URL", "REASON") if word not in head] == []
    assert alice.endswith("…")
    assert len(alice) == 80


def test_colours_are_on_the_state_only():
    """A colour changes no width."""
    plain, coloured = _table(ALICE, HIDDEN), _table(ALICE, HIDDEN, colour=True)
    assert "\x1b[32mready \x1b[0m" in coloured
    assert "\x1b[31mfailed\x1b[0m" in coloured
    for code in ("\x1b[32m", "\x1b[31m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_control_characters_do_not_reach_the_terminal():
    """A lab that puts escape sequences into its reason cannot write on the administrator's terminal."""
    shown = _table(ALICE | {"reason": "\x1b]0;owned\x07 two\nlines \u202e\u2066 \udcff \x9b31m"})
    assert "\\x1b]0;owned\\x07 two lines \\u202e\\u2066 \\udcff \\x9b31m" in shown
    assert shown.count("\n") == 2


def test_remarks():
    """Problems of the daemon itself are told in sentences."""
    document = {"config": {"error": "line 3: no\n"}, "nginx": {"error": None}}
    assert remarks(document) == ["the configuration on disk is not in use: line 3: no "]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "0s"), (12.9, "12s"), (60, "1min 0s"), (303, "5min 3s"), (11520, "3h 12min"), (90000, "1d 1h")],
)
def test_duration(seconds, expected):
    """A time span has its two largest units; a clock that was set back gives 0."""
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0B"), (1023, "1K"), (87 * 2**20, "87M"), (1000 * 2**20, "1.0G"), (5 * 2**30, "5.0G"), (2**60, "1048576T")],
)
def test_size(count, expected):
    """A size is short, and precise enough where it is large."""
    assert size(count) == expected


def test_widths():
    """Wide characters take two columns, combining ones none, and nothing is cut in the middle of one."""
    assert [width(text) for text in ("abc", "日本", "e\u0301")] == [3, 4, 1]
    assert [shorten("日本語", n) for n in (6, 5, 4, 3, 1, 0)] == ["日本語", "日本…", "日…", "日…", "…", ""]
    assert pad("日", 4) == "日  "
    assert pad("7", 3, right=True) == "  7"
    assert safe("plain — ü 日 ") == "plain — ü 日 "
