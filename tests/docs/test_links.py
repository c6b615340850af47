"""Every link of the documentation leads somewhere, and every page can be found from the README."""

import re

import pytest

from tests.docs.pages import PAGES, TOP, name

ALL = [*PAGES, TOP / "ARCHITECTURE.md", TOP / "CHANGELOG.md"]
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")


def links(page):
    """Return where the links of a page lead to, but for the web."""
    found = [first or second for first, second in LINK.findall(page.read_text())]
    return [link for link in found if "://" not in link]


def anchors(page):
    """Return the names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


MADE = TOP / "docs/benchmarks.md"
"""Written by `make bench`, which needs half an hour: the only page that need not be there."""


def leads_nowhere(page, link):
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if target == MADE and not MADE.exists():
        return False
    if not target.exists() or not target.is_relative_to(TOP):
        return True
    return bool(anchor) and anchor not in anchors(target)


@pytest.mark.parametrize("page", ALL, ids=name)
def test_links(page):
    """Files and headings that are linked to are there."""
    assert [link for link in links(page) if leads_nowhere(page, link)] == []


def test_a_broken_link_is_seen():
    """The test above can fail: for a file, for a heading, and for what is outside the project."""
    readme = TOP / "README.md"
    assert [leads_nowhere(readme, link) for link in ("docs/x.md", "docs/install.md#x", "..")] == [True] * 3
    assert not leads_nowhere(readme, "docs/install.md#selinux")


def test_every_page_is_linked():
    """The README leads to each page, and the troubleshooting page's list to each of its headings."""
    linked = {(TOP / link.partition("#")[0]).resolve() for link in links(TOP / "README.md")}
    assert [name(page) for page in ALL if page not in linked and page.name != "README.md"] == []
    page = TOP / "docs/troubleshooting.md"
    there = {
        re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")
        for text in re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    }
    assert there - {link.removeprefix("#") for link in links(page)} == set()
