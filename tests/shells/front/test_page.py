"""The page that stands in: what it says in each state, and that nothing of what it shows can become more than text."""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import pytest

from jlabd.front import answers
from jlabd.front.standing import Standing, tell
from tests.shells.front.visitors import parsed

NASTY = """</script><script>alert(1)</script>"'><img src=x onerror=alert(2)>{{ 7*7 }}"""


class Document(HTMLParser):
    """The elements of a page, and the text of style and script."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.raw = {"style": "", "script": "", "title": ""}
        self._inside = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in self.raw else None

    def handle_endtag(self, tag):
        """Leave it."""
        self._inside = None

    def handle_data(self, data):
        """Collect what is not markup."""
        if self._inside:
            self.raw[self._inside] += data

    def of(self, tag):
        """Return the attributes of all elements `tag`."""
        return [attrs for name, attrs in self.elements if name == tag]


def page(standing, name="alice", **options):
    """Return the headers and the text of the page."""
    _, headers, body = parsed(answers.page(name, standing, **options))
    return headers, body.decode()


def test_the_policy_allows_exactly_what_the_page_holds():
    """Style and script are allowed by their hash; there are no others, no handlers, and nothing from elsewhere."""
    headers, text = page(Standing("starting", "start requested"))
    document, policy = Document(text), headers["content-security-policy"]
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(document.raw[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
        assert len(document.of(name)) == 1
    attributes = {key for _, attrs in document.elements for key in attrs}
    assert not [key for key in attributes if key == "style" or key.startswith("on")]
    assert "src" not in attributes
    assert {attrs["href"] for attrs in document.of("a")} == {""}
    assert not re.search(r"https?:|['\"`]//", text)
    assert "url(" not in document.raw["style"]
    assert "@import" not in document.raw["style"]


def test_hostile_words_stay_words():
    """Whatever name, reason, user or hint hold, the page has the same elements, and shows them as they are."""
    standing = Standing("failed", NASTY, user=NASTY, owner_hint=NASTY)
    plain = Standing("failed", "x", user="x", owner_hint="x")
    _, text = page(standing, name=NASTY)
    assert [tag for tag, _ in Document(text).elements] == [tag for tag, _ in Document(page(plain)[1]).elements]
    assert html.escape(NASTY).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text
    facts = json.loads(Document(text).of("main")[0]["data-facts"])
    assert (facts["reason"], facts["name"]) == (NASTY, NASTY)


def test_a_reason_that_is_no_text_does_no_harm():
    """Half of a surrogate pair, as an undecodable file name has it, is replaced."""
    assert "no program x?y" in page(Standing("failed", "no program x\udcffy"))[1]
    assert parsed(answers.problem("alice", Standing("failed", "x\udcffy")))[0] == 503


@pytest.mark.parametrize(
    ("standing", "mood", "says"),
    [
        (Standing("starting", "start requested", expected_s=4), "wait", ["alice is starting", "start requested"]),
        (Standing("starting", "", since_s=45, expected_s=4), "wait", ["longer than usual"]),
        (Standing("stopping", "stop requested"), "wait", ["alice is stopping"]),
        (Standing("backoff", "exited with status 1", next_start_s=12.0), "wait", ["jlabctl logs alice", "status 1"]),
        (Standing("idle", "not used for 2 h", will_wake=True), "rest", ["asleep", "Start alice"]),
        (Standing("idle", "not used for 2 h"), "rest", ["asleep", "jlabctl start alice"]),
        (Standing("stopped", "stop requested", user="ann"), "rest", ["ann or an administrator", "jlabctl start alice"]),
        (Standing("failed", "no program /opt/x"), "fault", ["jlabctl logs alice", "jlabctl start alice", "/opt/x"]),
        (Standing("failed", "", owner_hint="The disk is full."), "fault", ["The disk is full."]),
        (Standing("unheard-of", "new"), "wait", ["alice does not answer yet"]),
    ],
)
def test_each_state_has_its_words(standing, mood, says):
    """The page says what is the case, why, and what to do about it; its title alone says the first."""
    _, text = page(standing)
    document = Document(text)
    assert document.of("main")[0]["data-mood"] == mood
    assert document.raw["title"] == tell("alice", standing).headline
    for words in says:
        assert words in text


def test_who_wakes_a_lab_is_told_that_it_starts():
    """The visit that wakes a sleeping lab sees it starting, also before anything of it runs."""
    assert "alice is starting" in page(Standing("idle", "x", will_wake=True), woken=True)[1]
    assert "alice is asleep" in page(Standing("idle", "x", will_wake=False), woken=True)[1]


@pytest.mark.parametrize(
    ("state", "refreshes"),
    [("starting", True), ("backoff", True), ("stopping", True), ("idle", False), ("failed", False)],
)
def test_without_scripts_the_page_comes_again_only_for_what_comes_by_itself(state, refreshes):
    """A refresh is a navigation, which wakes: a page of a lab that sleeps or was stopped must not repeat itself."""
    metas = Document(page(Standing(state, "x", will_wake=True))[1]).of("meta")
    assert any(attrs.get("http-equiv") == "refresh" for attrs in metas) == refreshes


def test_people_without_eyes_are_told():
    """What changes is in a live region, and the bar has a name."""
    document = Document(page(Standing("starting", "x"))[1])
    assert {"role": "status", "aria-live": "polite"} in document.of("div")
    assert document.of("progress")[0]["aria-label"] == "Start of alice"
    assert document.of("html") == [{"lang": "en"}]


def test_a_backoff_is_worth_coming_back_when_it_ends():
    """Retry-After of a backoff is the next attempt, rounded up."""
    standing = Standing("backoff", "x", next_start_s=41.2)
    assert parsed(answers.problem("alice", standing))[1]["retry-after"] == "42"
