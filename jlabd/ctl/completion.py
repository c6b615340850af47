"""`jlabctl completion`: scripts for bash, zsh and fish, made from what the command line takes.

The scripts ask `jlabctl completion names` for the names of instances each time; it is as quick as `jlabctl status`, and
silent where there is no daemon. What it prints is harmless in any shell.
"""

from __future__ import annotations

import sys

from jlabd.control.client import ProblemError, UnreachableError, request
from jlabd.control.wire import loads
from jlabd.ctl.failure import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from jlabd.ctl.parser import Parser

PATIENCE_S = 1.0
"""A person who pressed the tabulator does not wait longer."""

SIGNALS = "HUP INT QUIT KILL USR1 USR2 TERM CONT STOP"

_HARMLESS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@-")
_KINDS = {"NAME": "names", "PATH": "files", "FILE": "files", "ACCOUNT": "users", "SIGNAL": "signals"}
"""Name of an argument in the help → what completes it."""


def names(socket: str) -> int:
    """Print the names of all instances, one a line; none where nobody answers."""
    try:
        document = loads(request(socket, "GET", "/status", timeout=PATIENCE_S).read())
    except (UnreachableError, ProblemError, ValueError):
        return DONE
    for instance in document["instances"]:
        if _HARMLESS.issuperset(instance["name"]):
            print(instance["name"])
    return DONE


def script(shell: str, parser: Parser) -> int:
    """Print the script for `shell`."""
    sys.stdout.write(SHELLS[shell](parser))
    return DONE


def _kind(command: str, action: argparse.Action) -> str:
    """Return what completes the value of an option or an argument, "" for nothing."""
    if action.choices:
        return "words:" + " ".join(map(str, action.choices))
    if command == "add" and not action.option_strings:
        return ""  # a new name
    return _KINDS.get(str(action.metavar), "")


def _options(parser: Parser) -> list[str]:
    return [option for action in parser.taken for option in action.option_strings if _is_shown(action)]


def _is_shown(action: argparse.Action) -> bool:
    return action.help != "==SUPPRESS=="


def _arguments(parser: Parser) -> list[argparse.Action]:
    return [action for action in parser.taken if not action.option_strings]


def _with_value(parser: Parser) -> Iterator[tuple[list[str], argparse.Action]]:
    for action in parser.taken:
        if action.option_strings and action.nargs != 0:
            yield list(action.option_strings), action


def _help(action: argparse.Action) -> str:
    """Return what an option is for, on one line and without what a shell would take for its own."""
    text = (action.help or "").replace("%%", "%").replace("(%(default)s)", "").strip()
    return text.translate(str.maketrans(dict.fromkeys("'\"`$\\[]:", None)))


# bash

_BASH = """\
# Completion of jlabctl for bash; made by: jlabctl completion bash

_jlabctl_words() {  # each word that begins like the current one
    local word
    for word in "$@"; do
        [[ $word == "$current"* ]] && COMPREPLY+=("$word")
    done
}

_jlabctl_values() {
    case $1 in
        names)
            local name
            while IFS= read -r name; do _jlabctl_words "$name"; done < <(
                if [[ -n $socket ]]; then JLABD_SOCKET=$socket; export JLABD_SOCKET; fi
                jlabctl completion names 2>/dev/null
            ) ;;
        files) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        users) mapfile -t COMPREPLY < <(compgen -u -- "$current") ;;
        signals) _jlabctl_words @SIGNALS@ ;;
        words:*) _jlabctl_words ${1#words:} ;;
    esac
}

_jlabctl() {
    # bash cuts words at @ and =, which names and options have in them: they are read from the line instead.
    local line=${COMP_LINE:0:COMP_POINT} current previous command= socket= expected= number=0 word
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    current=${words[${#words[@]} - 1]}
    previous=${words[${#words[@]} - 2]}
    COMPREPLY=()
    for word in "${words[@]:1:${#words[@]} - 2}"; do
        if [[ $expected ]]; then
            [[ $expected == socket ]] && socket=$word
            expected=
            continue
        fi
        case $command:$word in
            *:--socket=*) socket=${word#--socket=} ;;
            :--socket) expected=socket ;;
@VALUED@
            *:-*) ;;
            :*) command=$word ;;
            *) number=$((number + 1)) ;;
        esac
    done
    if [[ $current == --*=* ]]; then
        previous=${current%%=*}
        current=${current#*=}
        expected=value
    fi
    if [[ $expected ]]; then
        case $command:$previous in
            :--socket) _jlabctl_values files ;;
@VALUES@
        esac
    elif [[ $current == -* ]]; then
        case $command in
@OPTIONS@
        esac
    else
        case $command:$number in
            :*) _jlabctl_words @COMMANDS@ ;;
@ARGUMENTS@
        esac
    fi
    # bash replaces only what follows the last of these characters.
    local cut=${current%"${current##*[@=]}"} n
    for n in "${!COMPREPLY[@]}"; do COMPREPLY[n]=${COMPREPLY[n]#"$cut"}; done
}

complete -F _jlabctl jlabctl
"""


def _bash(parser: Parser) -> str:
    commands = parser.commands()
    valued, values, options, arguments = [], [], [], []
    options.append(_case("''", f"_jlabctl_words {' '.join(_options(parser))}"))
    for name, command in commands.items():
        options.append(_case(name, f"_jlabctl_words {' '.join(_options(command))}"))
        for strings, action in _with_value(command):
            pattern = "|".join(f"{name}:{option}" for option in strings)
            valued.append(_case(pattern, "expected=value"))
            if kind := _kind(name, action):
                values.append(_case(pattern, f"_jlabctl_values '{kind}'"))
        for number, action in enumerate(_arguments(command)):
            if kind := _kind(name, action):
                which = "*" if action.nargs in {"*", "+"} else str(number)
                arguments.append(_case(f"{name}:{which}", f"_jlabctl_values '{kind}'"))
    parts = {"VALUED": valued, "VALUES": values, "OPTIONS": options, "ARGUMENTS": arguments}
    text = _BASH.replace("@SIGNALS@", SIGNALS).replace("@COMMANDS@", " ".join(commands))
    for key, lines in parts.items():
        text = text.replace(f"@{key}@", "\n".join(lines))
    return text


def _case(pattern: str, action: str) -> str:
    return f"            {pattern}) {action} ;;"


# zsh

_ZSH = """\
#compdef jlabctl
# Completion of jlabctl for zsh; made by: jlabctl completion zsh

_jlabctl_names() {
    local -a names
    local socket=${opt_args[--socket]:-$JLABD_SOCKET}
    names=(${(f)"$(JLABD_SOCKET=$socket jlabctl completion names 2>/dev/null)"})
    compadd -a names
}

_jlabctl() {
    local curcontext=$curcontext state line
    local -A opt_args
    _arguments -C @GLOBAL@ '1: :->command' '*:: :->arguments'
    case $state in
        command)
            local -a commands=(
@COMMANDS@
            )
            _describe command commands ;;
        arguments)
            case $line[1] in
@CASES@
            esac ;;
    esac
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _jlabctl "$@"; else compdef _jlabctl jlabctl; fi
"""
_ZSH_ACTIONS = {"names": "_jlabctl_names", "files": "_files", "users": "_users", "signals": f"({SIGNALS})", "": " "}


def _zsh(parser: Parser) -> str:
    cases = [
        f"                {name}) _arguments {_zsh_specs(name, each)} ;;" for name, each in parser.commands().items()
    ]
    commands = [f"                '{name}:{_about(command)}'" for name, command in parser.commands().items()]
    text = _ZSH.replace("@GLOBAL@", _zsh_specs("", parser))
    return text.replace("@COMMANDS@", "\n".join(commands)).replace("@CASES@", "\n".join(cases))


def _zsh_specs(command: str, parser: Parser) -> str:
    specs = []
    for action in filter(_is_shown, parser.taken):
        kind = _kind(command, action)
        how = f"({kind.removeprefix('words:')})" if kind.startswith("words:") else _ZSH_ACTIONS[kind]
        value = f":{str(action.metavar or action.dest).lower().replace(':', '')}:{how}"
        if not action.option_strings:
            specs.append(f"'{'*' if action.nargs in {'*', '+'} else ''}{value}'")
        for option in action.option_strings:
            equals = "=" if option.startswith("--") and action.nargs != 0 else ""
            specs.append(f"'{option}{equals}[{_help(action)}]{'' if action.nargs == 0 else value}'")
    return " ".join(specs)


# fish

_FISH = """\
# Completion of jlabctl for fish; made by: jlabctl completion fish

function __jlabctl_names
    set -l words (commandline -opc)
    if set -l at (contains -i -- --socket $words); and test (count $words) -gt $at
        set -lx JLABD_SOCKET $words[(math $at + 1)]
        jlabctl completion names 2>/dev/null
    else
        jlabctl completion names 2>/dev/null
    end
end

complete -c jlabctl -f
@GLOBAL@
@COMMANDS@
"""
_FISH_VALUES = {
    "names": "-xa '(__jlabctl_names)'",
    "files": "-rF",
    "users": "-xa '(__fish_complete_users)'",
    "signals": f"-xa '{SIGNALS}'",
    "": "-x",
}


def _fish(parser: Parser) -> str:
    commands = parser.commands()
    none_yet = f"not __fish_seen_subcommand_from {' '.join(commands)}"
    lines = []
    for name, command in commands.items():
        lines.append(f"complete -c jlabctl -n '{none_yet}' -a {name} -d '{_about(command)}'")
        lines += _fish_lines(name, command, f"__fish_seen_subcommand_from {name}")
    return _FISH.replace("@GLOBAL@", "\n".join(_fish_lines("", parser, none_yet))).replace(
        "@COMMANDS@", "\n".join(lines)
    )


def _fish_lines(name: str, parser: Parser, condition: str) -> Iterator[str]:
    for action in filter(_is_shown, parser.taken):
        kind = _kind(name, action)
        value = f"-xa '{kind.removeprefix('words:')}'" if kind.startswith("words:") else _FISH_VALUES[kind]
        head = f"complete -c jlabctl -n '{condition}'"
        if not action.option_strings:
            if kind:
                yield f"{head} {value.replace('-xa', '-a').replace('-rF', '-F')}"
            continue
        words = " ".join(f"-l {o[2:]}" if o.startswith("--") else f"-s {o[1:]}" for o in action.option_strings)
        yield f"{head} {words} {'' if action.nargs == 0 else f'{value} '}-d '{_help(action)}'"


def _about(parser: Parser) -> str:
    return (parser.description or "").rstrip(".").translate(str.maketrans(dict.fromkeys("'\"`$\\[]:", None)))


SHELLS: dict[str, Callable[[Parser], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
