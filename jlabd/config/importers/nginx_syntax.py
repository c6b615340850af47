"""The syntax of nginx's configuration: directives and blocks with their lines, whatever they mean. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from jlabd.config.importers.findings import Given, quoted

_DEEPEST = 50
_BLANK = re.compile(r"(?:\s+|#[^\n]*)+")
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", re.DOTALL)
_PLAIN = re.compile(r"(?:[^\s;{}\"'\\$]|\\.|\$\{[^}\n]*\}|\$|(?<=[^\s;{}])[\"'])+", re.DOTALL)


@dataclass(slots=True)
class Directive:
    """One directive; `block` is None if it ends in a semicolon."""

    name: str
    args: list[str]
    line: int
    block: list[Directive] | None = None

    def below(self, name: str) -> Iterator[Directive]:
        """Yield the directives called `name` in its block."""
        return (directive for directive in self.block or () if directive.name == name)

    def first(self, name: str) -> Directive | None:
        """Return the first directive called `name` in its block."""
        return next(self.below(name), None)

    @property
    def written(self) -> str:
        """The directive for a comment."""
        return quoted(" ".join([self.name, *self.args]))


@dataclass(slots=True)
class _Open:
    """Blocks that are being read, and the words of the directive that is."""

    root: Directive = field(default_factory=lambda: Directive("", [], 0, []))
    blocks: list[Directive] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    line: int = 0


def parse(given: Given) -> Directive:
    """Return a nameless directive whose block holds the file's. Raises ImportFailedError."""
    here = _Open()
    here.blocks.append(here.root)
    for line, word, bare in _tokens(given):
        if not bare or word not in {";", "{", "}"}:
            here.line = here.line if here.words else line
            here.words.append(word)
        elif word == "}" and len(here.blocks) > 1 and not here.words:
            here.blocks.pop()
        elif word == "}" or not here.words:
            raise given.at(line).failed(f"{word} stands where nginx expects a directive")
        else:
            directive = Directive(here.words[0], here.words[1:], here.line, [] if word == "{" else None)
            _below(here.blocks[-1]).append(directive)
            here.words = []
            if word == "{":
                here.blocks.append(directive)
            if len(here.blocks) > _DEEPEST:
                raise given.at(line).failed("is nested too deeply")
    if here.words:
        raise given.at(here.line).failed(f"{quoted(here.words[0])} is not ended by a semicolon")
    if len(here.blocks) > 1:
        raise given.at(here.blocks[-1].line).failed(f"the block of {quoted(here.blocks[-1].name)} is not closed")
    return here.root


def _below(directive: Directive) -> list[Directive]:
    assert directive.block is not None
    return directive.block


def _tokens(given: Given) -> Iterator[tuple[int, str, bool]]:
    """Yield each word, semicolon and brace with its line, and whether it stands without quotes."""
    text, at, line = given.text, 0, 1
    while at < len(text):
        if found := _BLANK.match(text, at):
            line += found[0].count("\n")
        elif text[at] in ";{}":
            yield line, text[at], True
            at += 1
            continue
        elif found := _QUOTED.match(text, at):
            yield line, re.sub(r"\\([\"'\\])", r"\1", found[1] if found[1] is not None else found[2]), False
            line += found[0].count("\n")
        elif found := _PLAIN.match(text, at):
            yield line, found[0], True
            line += found[0].count("\n")
        else:
            raise given.at(line).failed("a quotation mark is not closed")
        at = found.end()
