"""The words and commands of a shell script, as far as they can be told without running it. Pure.

`shlex` alone would not do: it forgets which quotes a word was in, and in single quotes `$argon2id$v=19$…` is a
password's hash, not three variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from jlabd.config.importers.commandline import Riddle

_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^{}$`\"'\\]*))?\})")
_OPERATOR = re.compile(r"&&|\|\||;;|<<-?|>>|>&|<&|&>>?|[;&|<>()]")
_PLAIN = re.compile(r"[^\s'\"\\$`;&|<>()]+")
_HEREDOC = re.compile(r"[^\S\n]*(['\"]?)([A-Za-z0-9_]+)\1")
_SUBSTITUTION = "$("


class ShellError(Exception):
    """The text is no shell script; `line` says where."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


@dataclass(slots=True)
class Command:
    """A simple command: its words, where they are sent, and the operator behind it."""

    line: int
    words: list[str] = field(default_factory=list)
    redirections: list[str] = field(default_factory=list)
    end: str = "\n"


@dataclass(slots=True)
class Scanner:
    """Goes through a script. `variables` may grow in between: words are made one command at a time."""

    text: str
    variables: Mapping[str, str]
    at: int = 0
    line: int = 1

    def commands(self) -> Iterator[Command]:
        """Yield the commands. Raises ShellError."""
        command = Command(self.line)
        while self.at < len(self.text):
            if end := self._blank(command):
                yield from self._finished(command, end)
                command = Command(self.line)
            elif found := _OPERATOR.match(self.text, self.at):
                if self._operator(found[0], command):
                    yield from self._finished(command, found[0])
                    command = Command(self.line)
            elif self.at < len(self.text):
                if not command.words:
                    command.line = self.line
                command.words.append(self._word())
        yield from self._finished(command, "\n")

    def _finished(self, command: Command, end: str) -> Iterator[Command]:
        command.end = end
        if command.words or command.redirections:
            yield command

    def _move(self, to: int) -> str:
        """Go on to `to`; return what is in between."""
        passed = self.text[self.at : to]
        self.line += passed.count("\n")
        self.at = to
        return passed

    def _blank(self, command: Command) -> str:
        """Skip blanks, a comment and a joined line; return a newline if one ended the command."""
        while self.at < len(self.text):
            two = self.text[self.at : self.at + 2]
            if two == "\\\n":
                self._move(self.at + 2)
            elif two[0] == "\n":
                self._move(self.at + 1)
                return "\n"
            elif two[0].isspace():
                self._move(self.at + 1)
            elif two[0] == "#":
                end = self.text.find("\n", self.at)
                self._move(len(self.text) if end < 0 else end)
            else:
                break
        if not command.words:
            command.line = self.line
        return ""

    def _operator(self, operator: str, command: Command) -> bool:
        """Take an operator; return whether it ends the command."""
        self._move(self.at + len(operator))
        if operator in {"<<", "<<-"}:
            self._skip_heredoc()
            command.redirections.append(operator)
            return False
        if operator[0] not in "<>" and not operator.startswith("&>"):
            return True
        if command.words and command.words[-1].isdigit():
            operator = command.words.pop() + operator
        while self.text[self.at : self.at + 1] in {" ", "\t"}:
            self._move(self.at + 1)
        command.redirections.append(f"{operator}{self._word()}")
        return False

    def _skip_heredoc(self) -> None:
        found = _HEREDOC.match(self.text, self.at)
        if found is None:
            raise ShellError(self.line, "<< without the word that ends it")
        end = re.compile(rf"\n[^\S\n]*{found[2]}[^\S\n]*(?=\n|\Z)").search(self.text, found.end())
        if end is None:
            raise ShellError(self.line, f"<< {found[2]} is not ended by a line {found[2]}")
        # The rest of the line is still commands; what follows it is not.
        rest = self.text.find("\n", found.end())
        skipped = self.text[rest : end.end()].count("\n")
        self.text = self.text[: self.at] + self.text[found.end() : rest] + "\n" * skipped + self.text[end.end() :]

    def _word(self) -> str:
        """Return the word that begins here. Raises ShellError."""
        start, parts, riddle = self.at, list[str](), False
        while self.at < len(self.text):
            if found := _PLAIN.match(self.text, self.at):
                parts.append(self._move(found.end()))
            elif self.text.startswith("'", self.at):
                parts.append(self._single())
            elif self.text.startswith('"', self.at):
                text, known = self._double()
                riddle |= not known
                parts.append(text)
            elif self.text.startswith("\\", self.at):
                parts.append(self._move(self.at + 2)[1:].replace("\n", ""))
            elif self.text[self.at] in "$`":
                text, known = self._expansion()
                riddle |= not known or any(c in text for c in " \t\n*?")
                parts.append(text)
            else:
                break
        if riddle:
            return Riddle(self.text[start : self.at])
        return "".join(parts)

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise ShellError(self.line, "a single quotation mark is not closed")
        return self._move(end + 1)[1:-1]

    def _double(self) -> tuple[str, bool]:
        first, parts, known = self.line, list[str](), True
        self._move(self.at + 1)
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == '"':
                self._move(self.at + 1)
                return "".join(parts), known
            if character == "\\":
                two = self._move(self.at + 2)
                parts.append("" if two == "\\\n" else two[1:] if two[1:] in set('"\\$`') else two)
            elif character in "$`":
                text, told = self._expansion()
                known &= told
                parts.append(text)
            else:
                end = re.compile(r'["\\$`]').search(self.text, self.at)
                parts.append(self._move(end.start() if end else len(self.text)))
        raise ShellError(first, "a double quotation mark is not closed")

    def _expansion(self) -> tuple[str, bool]:
        """Return what `$…` or a backtick comes to, and whether that is known."""
        if self.text[self.at] == "`":
            end = self.text.find("`", self.at + 1)
            return self._move(len(self.text) if end < 0 else end + 1), False
        if found := _VARIABLE.match(self.text, self.at):
            self._move(found.end())
            value = self.variables.get(found[1] or found[2])
            value = found[3] if value is None else value
            return (value, True) if value is not None else (found[0], False)
        if self.text.startswith(_SUBSTITUTION, self.at):
            return self._move(self._closing(self.at + 1)), False
        if self.text.startswith("${", self.at):
            end = self.text.find("}", self.at)
            return self._move(len(self.text) if end < 0 else end + 1), False
        if self.text[self.at + 1 : self.at + 2] in set("@*#?$!-'\"0123456789"):
            return self._move(self.at + 2 - (self.text[self.at + 1] in "'\"")), False
        return self._move(self.at + 1), True

    def _closing(self, at: int) -> int:
        """Return where the parenthesis that opens at `at` is closed."""
        depth = 0
        for found in re.compile(r"[()]").finditer(self.text, at):
            depth += 1 if found[0] == "(" else -1
            if depth == 0:
                return found.end()
        raise ShellError(self.line, "$( is not closed")
