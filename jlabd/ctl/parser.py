"""An argparse parser that remembers what it was told, for the completion of shells, and that suggests."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Understands a command line, or a part of it; `taken` are its options and arguments in the order of adding."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.taken: list[argparse.Action] = []
        super().__init__(*args, **kwargs)

    def add_argument(self, *names: Any, **kwargs: Any) -> argparse.Action:
        """Add an option or argument, as argparse does, and remember it."""
        action = super().add_argument(*names, **kwargs)
        self.taken.append(action)
        return action

    def error(self, message: str) -> NoReturn:
        """Exit with 2, and the usage and the sentence on stderr; a mistyped word gets a suggestion."""
        near = self._nearest(message)
        super().error(f"{message.partition(' (choose from')[0]}; did you mean '{near}'?" if near else message)

    def _nearest(self, message: str) -> str:
        """Return the word that may have been meant, "" for none."""
        from difflib import get_close_matches

        mistyped, known = "", ""
        if "invalid choice: '" in message:
            mistyped, _, known = message.partition("invalid choice: '")[2].partition("' (choose from ")
        elif "unrecognized arguments: " in message:
            mistyped = message.partition("unrecognized arguments: ")[2].split()[0].partition("=")[0]
            known = " ".join(option for action in self.everything() for option in action.option_strings)
        words = [word.strip("'()") for word in known.replace(",", " ").split()]
        return "".join(get_close_matches(mistyped, words, 1))

    def everything(self) -> list[argparse.Action]:
        """Return what this parser and those of its commands take."""
        return self.taken + [action for parser in self.commands().values() for action in parser.taken]

    def commands(self) -> dict[str, Parser]:
        """Return name → parser of each command, if there are any."""
        found = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001  (argparse has no other way)
        return next((dict(action.choices) for action in found), {})
