"""The status page as the daemon makes it: whole without its script, and nothing in it can become more than text."""

import base64
import hashlib
import re
from datetime import datetime
from html.parser import HTMLParser

import pytest
from rig.stage import Stage, entry

from jlabd.core.state import Actual
from jlabd.status.page import GRAPH_HEIGHT, GRAPH_WIDTH, MOODS, POLICY, duration, points, render, row, size
from jlabd.status.view import rfc3339

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)> &amp; \u202e\x00 ü"


class Document(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._inside = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self._inside and self._inside[-1] not in {"script", "style"}:
            self.text += data


def page(*entries, events=(), **more):
    stage = Stage(*entries)
    snapshot = stage.broadcast.snapshot()
    snapshot["document"] |= more
    return render(snapshot, events, "lab.example.com")


def test_each_state_has_a_mood_and_its_word():
    """No state is told by colour alone, and none is forgotten."""
    assert MOODS.keys() == set(Actual)
    document = Document(page(*(entry(state.value, state.value) for state in Actual)))
    moods = {e["data-name"]: e["data-mood"] for tag, e in document.elements if tag == "tr" and e.get("data-name")}
    assert moods == MOODS
    for state in Actual:
        assert document.text.count(state.value) >= 3  # the name, the state, the count


def test_without_its_script():
    """The table says everything, and is loaded anew from time to time."""
    text = page(entry("alice", kernels=3, cpu_percent=12.4, memory_bytes=3 * 2**30, restarts=2, user="ann"))
    document = Document(text)
    for said in ("alice", "ann", "ready", "for 1 h 6 min", "ready after 0.9 s", "12 %", "3.0 G", "lab.example.com"):
        assert said in document.text
    assert ("meta", {"http-equiv": "refresh", "content": "5"}) in document.elements
    assert ("a", {"href": "http://lab.example.com/alice/"}) in document.elements


def test_hostile_values():
    """Names, reasons and errors are text, whatever they hold."""
    event = {"id": HOSTILE, "time": "2026-03-01T12:00:00.000Z", "instance": HOSTILE, "state": None, "reason": HOSTILE}
    text = page(
        entry("x", "failed", HOSTILE, user=HOSTILE, url=f"javascript:{HOSTILE}"),
        events=[event],
        nginx={"ok": False, "generation": 1, "error": HOSTILE},
        config={"path": "/x", "error": HOSTILE},
    )
    document = Document(text)
    tags = [tag for tag, _ in document.elements]
    assert (tags.count("script"), tags.count("img"), tags.count("style")) == (1, 0, 1)
    assert not [a for _, a in document.elements if any(name.startswith("on") or name == "style" for name in a)]
    assert not [a for _, a in document.elements if a.get("href", "").lower().startswith("javascript")]
    assert document.text.count("onerror=alert(1)") == 6


@pytest.mark.parametrize("url", ["http+unix://%2Frun%2Fx.sock/", "javascript:alert(1)", "//evil.example", ""])
def test_only_web_addresses_are_links(url):
    """An address that a browser cannot open, or must not, is no link."""
    assert row(entry("x", url=url), [], datetime.fromisoformat(rfc3339(datetime.now().astimezone()))).href == ""


def test_policy():
    """The policy allows exactly this style and this script, and nothing from elsewhere."""
    text = page(entry("x"))
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in POLICY
    assert POLICY.startswith("default-src 'none'; connect-src 'self';")
    assert "unsafe" not in POLICY
    assert not re.search(r"""(?:src|href)=["'](?!data:|#|http://lab\.example\.com/|status|metrics|events)""", text)


def test_no_labs():
    """A newcomer is told what to do."""
    assert "jlabctl add NAME" in Document(page()).text


def test_points():
    """Now is at the right, a window ago at the left; the largest value is at the top, an idle lab is at the bottom."""
    assert points([], [], 50.0) == ""
    assert points([900, 450, 0], [0.0, 100.0, 200.0], 50.0) == f"0.0,27.0 60.0,14.0 {GRAPH_WIDTH}.0,1.0"
    assert points([0], [1.0], 50.0) == f"120.0,{GRAPH_HEIGHT - 1 - 26 / 50:.1f}"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, "0 s"), (59.9, "59 s"), (60, "1 min"), (3700, "1 h 1 min"), (90000, "1 d 1 h"), (900000, "10 d")],
)
def test_duration(seconds, said):
    """At most two units."""
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (999, "999 B"), (2**20, "1 M"), (1000 * 2**20, "1.0 G"), (2**50, "1024.0 T")]
)
def test_size(count, said):
    """At most four digits."""
    assert size(count) == said.replace("1024.0", "1024")
