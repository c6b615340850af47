# ruff: noqa: INP001  (a program to run, not a package)
"""Make what is derived from the code: the JSON schema of the configuration file, and the manual pages.

    .venv/bin/python packaging/pages.py [--output FOLDER]

Manual pages are templates in packaging/man, filled with the keys of the configuration's model and the options of the
programs. What is made is kept with the sources; a test says when it is out of date, and `make pages` mends that.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jlabd import __version__, main
from jlabd.config import forms
from jlabd.config.manual import TEXTS
from jlabd.config.schema import TABLES, keys, schema, text_of
from jlabd.ctl import options

TOP = Path(__file__).resolve().parent.parent
SCHEMA = "etc/jlabd.schema.json"
PAGES = ("packaging/man/jlabctl.1", "packaging/man/jlabd.8", "packaging/man/jlabd.toml.5")
DATE = "November 27, 2026"
"""Of the last change that readers of the manual pages may notice."""

_FORMS = {"TIME": "time", "SIZE": "size", "PATH": "path", "QUOTA": '"200%"', "UMASK": '"0077"', "ADDRESS": "address"}
_FORMS |= {"PATH_OR_NONE": "path", "BASE_URL": '"/path/"', "SIGNAL": "signal", "ONE_OR_MORE": "text, or list of texts"}
_TYPES = {"boolean": "true or false", "string": "text", "object": "table", "integer": "number", "number": "number"}
_INSTANCE = """\
[instance.NAME] is one instance; NAME is up to 32 letters, digits and _ . @ - that begin with a letter or digit. \
What stands in [defaults] holds for each instance that does not say otherwise."""
_TEMPLATE = """\
[template.NAME] is an instance for each of some users, named like the user. It takes all keys of an instance, in \
which {user} and {home} are filled in, and these:"""
_SECTIONS = {
    "daemon": ("THE DAEMON", "[daemon] has the daemon's own folders and habits."),
    "nginx": ("NGINX", "[nginx] has the part of nginx's configuration that jlabd writes."),
    "instance": ("INSTANCES", _INSTANCE),
    "template": ("TEMPLATES", _TEMPLATE),
}
_DEFAULT = re.compile(r"^#([a-z_]+) = (.+)$")
_TABLE = re.compile(r"^\[(\w+)\]$")
_MACRO = re.compile(r"\b([A-Z%][a-z0-9])\b")
_SENTENCE = re.compile(r"(?<=[.;:]) (?=[A-Z])")


def made() -> dict[str, str]:
    """Return file, relative to the checkout → content, of everything that is derived."""
    environment = Environment(
        loader=FileSystemLoader(TOP / "packaging/man"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  (this is not HTML)
    )
    environment.filters["roff"] = roff
    values = {"date": DATE, "version": __version__}
    more = {PAGES[0]: _of_jlabctl(), PAGES[1]: _of_jlabd(), PAGES[2]: {"sections": list(_sections())}}
    pages = {page: environment.get_template(f"{Path(page).name}.j2").render(values, **more[page]) for page in PAGES}
    return {SCHEMA: json.dumps(schema(), indent=2) + "\n", **pages}


def roff(text: str) -> str:
    """Return `text` so that roff takes none of it for a command; each sentence on a line of its own."""
    escaped = _MACRO.sub(r"\\&\1", text.replace("\\", "\\e").replace('"', "\\(dq"))
    sentences = _SENTENCE.sub("\n", escaped).splitlines()
    lines = [
        line for sentence in sentences for line in wrap(sentence, 78, break_long_words=False, break_on_hyphens=False)
    ]
    return "\n".join(f"\\&{line}" if line[:1] in {".", "'"} else line for line in lines)


# The configuration file


def _sections() -> Iterator[dict[str, Any]]:
    defaults = _defaults()
    for name, (title, text) in _SECTIONS.items():
        entries = [
            {
                "name": key.removeprefix(f"{name}."),
                "form": _spoken(form),
                "text": text_of(key),
                "default": defaults.get(key, ""),
            }
            for key, form in keys(TABLES[name], name)
            if name != "template" or key in TEXTS
        ]
        yield {"title": title, "text": text, "entries": entries}


def _spoken(form: dict[str, Any]) -> str:
    """Return in a word or two what is written for a value of this form."""
    for name, word in _FORMS.items():
        if form == getattr(forms, name).json_schema:
            return word
    if "enum" in form:
        return " or ".join(f'"{word}"' for word in form["enum"])
    if form.get("type") == "array":
        return f"list of {_spoken(form['items'])}s".replace("addresss", "addresses")
    return _TYPES[form["type"]]


def _defaults() -> dict[str, str]:
    """Return dotted key → default as people write it: the shipped file has each, with a test that it is true."""
    found: dict[str, str] = {}
    table = ""
    for line in (TOP / "etc/jlabd.toml").read_text(encoding="utf-8").splitlines():
        if header := _TABLE.match(line):
            table = header[1].replace("defaults", "instance")
        elif line.startswith("#["):  # examples follow
            break
        elif value := _DEFAULT.match(line):
            found |= _flat(f"{table}.{value[1]}", value[2])
    return found


def _flat(key: str, value: str) -> dict[str, str]:
    """Take an inline table apart: none of those in the shipped file is nested or holds a comma in a value."""
    if not (value.startswith("{") and value != "{}"):
        return {key: value}
    parts = (part.split(" = ") for part in value.strip("{ }").split(", "))
    return {f"{key}.{name}": inner for name, inner in parts}


# The programs


def _of_jlabd() -> dict[str, Any]:
    parser = main.parser()
    return {"usage": _usage(parser), "options": _options(parser)}


def _of_jlabctl() -> dict[str, Any]:
    parser = options.parser("/run/jlabd/control.sock")
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001  (argparse has no other way)
    commands = [
        {
            "name": name,
            "usage": f".Op Fl -socket Ar PATH\n.Ic {name}\n{_usage(command)}".rstrip(),
            "text": command.description or "",
            "options": _options(command),
        }
        for name, command in subparsers.choices.items()
    ]
    return {"options": _options(parser), "commands": commands}


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001  (argparse has no other way)
        hidden = argparse.SUPPRESS in {action.help, action.dest} or isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
        if not hidden and "--help" not in action.option_strings:
            yield action


def _usage(parser: argparse.ArgumentParser) -> str:
    lines = []
    for action in _actions(parser):
        if action.option_strings:
            lines.append(f".Op {_flag(action.option_strings[-1])}{_argument(action)}")
        else:
            many = " ..." if action.nargs in {"*", "+"} else ""
            lines.append(f".{'Op ' if action.nargs in {'*', '?'} else ''}Ar {action.metavar or action.dest}{many}")
    return "\n".join(lines)


def _options(parser: argparse.ArgumentParser) -> str:
    lines = []
    for action in _actions(parser):
        if action.option_strings and action.help:
            names = " , ".join(_flag(option) for option in action.option_strings)
            text = action.help % {"default": action.default, "prog": parser.prog}
            lines += [f".It {names}{_argument(action)}", roff(f"{text[0].upper()}{text[1:]}.")]
    return "\n".join(lines)


def _flag(option: str) -> str:
    return f"Fl {option.removeprefix('-')}"


def _argument(action: argparse.Action) -> str:
    return "" if action.nargs == 0 else f" Ar {action.metavar or action.dest.upper()}"


def write(output: Path) -> None:
    """Write everything that is derived below `output`. Raises OSError."""
    for name, text in made().items():
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(name)


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description="Make the JSON schema and the manual pages.")
    asked.add_argument("--output", type=Path, default=TOP, help="default: this checkout")
    write(asked.parse_args().output)
    sys.exit(0)
