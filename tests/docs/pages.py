"""README.md and the pages of docs/, and what stands in them."""

import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(?P<kind>\w+)(?: (?P<more>\S+))?\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_PROGRAMS = re.compile(r"(?:sudo )?(?:\S+/bin/)?(jlabctl|jlabd)(?= |$)")


def name(page):
    """Return the path of a page, as a person says it."""
    return str(page.relative_to(TOP))


def blocks(page, kind):
    """Yield what is behind the kind (like "run=NAME", or "") and the text of each fenced block of a kind."""
    for found in _BLOCK.finditer(page.read_text()):
        if found["kind"] == kind:
            yield found["more"] or "", found["text"]


def shell_lines(text):
    """Yield each command of a shell block, without its comment; `a && b` and `a; b` are two."""
    for line in text.splitlines():
        for command in re.split(r" && |; ", re.sub(r"(^|\s+)#.*", "", line)):
            if command.strip():
                yield command.strip()


def plain_text(page):
    """Return a page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text())


def spans(page):
    """Yield what stands in backticks in the text of a page; a line break in it is a space."""
    for found in _SPAN.findall(plain_text(page)):
        yield " ".join(found.split())


def calls(page):
    """Yield each call of jlabctl and jlabd on a page, from the program's name on, in blocks and in the text."""
    lines = [line for _, text in blocks(page, "sh") for line in shell_lines(text)]
    for line in lines + list(spans(page)):
        found = _PROGRAMS.match(line)
        if found:
            yield line[found.start(1) :]
