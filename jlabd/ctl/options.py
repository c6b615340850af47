"""The command line of `jlabctl`, and which function does what."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from jlabd import __version__
from jlabd.ctl.parser import Parser

Action = Callable[[argparse.Namespace], int]

DEFAULT_LINES = 50

_HIDDEN = argparse.SUPPRESS

_INSTALL_WORDS = (("show", "print"), ("uninstall", "uninstall"), ("force", "force"))


def run(argv: Sequence[str], default_socket: str) -> int:
    """Understand the command line and do what it says; return the exit code. A wrong one exits with 2."""
    options = parser(default_socket).parse_args(argv)
    action: Action = options.action
    return action(options)


def parser(default_socket: str) -> Parser:
    """Return what understands the command line."""
    parser = Parser(prog="jlabctl", description="Look at and control the labs that jlabd supervises.")
    parser.add_argument("--socket", metavar="PATH", default=default_socket, help="control socket (%(default)s)")
    parser.add_argument("--no-color", "--no-colour", action="store_true", help="no colours on a terminal either")
    parser.add_argument("--version", action="version", version=f"jlabctl {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        _add_status,
        _add_lifecycle,
        _add_signal,
        _add_reload,
        _add_reexec,
        _add_check,
        _add_doctor,
        _add_import,
        _add_streams,
        _add_url,
        _add_passwd,
        _add_amending,
        _add_completion,
        _add_install,
    ):
        add(_Commands(commands))
    return parser


class _Commands:
    """Adds one command after the other."""

    def __init__(self, parsers: argparse._SubParsersAction[Parser]) -> None:
        self._parsers = parsers

    def add(self, name: str, action: Action, what: str) -> Parser:
        parser = self._parsers.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        # Also accepted after the command, where people write it.
        parser.add_argument("--no-color", "--no-colour", action="store_true", default=argparse.SUPPRESS, help=_HIDDEN)
        parser.set_defaults(action=action)
        return parser


def _add_status(commands: _Commands) -> None:
    parser = commands.add("status", _status, "show the instances; exit code 3 if one that should run does not")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--json", action="store_true", help="the status document")
    parser.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C")


def _add_lifecycle(commands: _Commands) -> None:
    for verb, what in (
        ("start", "start instances and wait until they are ready"),
        ("stop", "stop instances and wait until they are stopped; asked for again meanwhile, they are killed"),
        ("restart", "restart instances and wait until they are ready"),
    ):
        parser = commands.add(verb, _lifecycle, what)
        parser.set_defaults(verb=verb, usage=parser.error)
        parser.add_argument("names", nargs="*", metavar="NAME")
        parser.add_argument("--all", action="store_true", help="all instances; for ordinary users, all of their own")
        parser.add_argument("--no-wait", action="store_true", help="return as soon as it is asked for")
        parser.add_argument("--timeout", type=_seconds, metavar="T", help='stop waiting after T ("90s", "5min")')


def _add_signal(commands: _Commands) -> None:
    parser = commands.add("signal", _signal, "send a signal to the server process of an instance")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("signal", metavar="SIGNAL", help="a name like HUP, or a number")


def _add_reload(commands: _Commands) -> None:
    parser = commands.add("reload", _reload, "apply the edited configuration, all of it or nothing")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be done")
    parser.add_argument("--json", action="store_true")


def _add_reexec(commands: _Commands) -> None:
    commands.add("reexec", _reexec, "have the daemon replace itself by the code on disk; every instance runs on")


def _add_check(commands: _Commands) -> None:
    parser = commands.add("check", _check, "look for problems in the configuration file")
    parser.add_argument("path", nargs="?", metavar="PATH")


def _add_doctor(commands: _Commands) -> None:
    parser = commands.add("doctor", _doctor, "look for what usually goes wrong, and say how to mend it")
    parser.add_argument("--config", metavar="PATH")
    parser.add_argument("--json", action="store_true", help="the findings as JSON")


def _add_import(commands: _Commands) -> None:
    parser = commands.add(
        "import", _import, "print as configuration of jlabd what ran labs until now; nothing is changed"
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a Supervisor configuration, a systemd unit or drop-in, a run script, a jupyter_lab_config.py, an nginx "
        "server; what they name is read too, nothing of it is run",
    )
    parser.add_argument("--name", metavar="NAME", help="what the instance is to be called")


def _add_streams(commands: _Commands) -> None:
    logs = commands.add("logs", _logs, "show the log of an instance")
    logs.add_argument("name", metavar="NAME")
    events = commands.add("events", _events, "show what happened to whom and why")
    events.add_argument("--json", action="store_true", help="one JSON object a line")
    for parser in (logs, events):
        parser.add_argument(
            "-n", "--lines", type=_count, metavar="N", default=DEFAULT_LINES, help="how many lines (%(default)s)"
        )
        parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes")


def _add_url(commands: _Commands) -> None:
    parser = commands.add("url", _url, "print the address of an instance")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--token", action="store_true", help="a link that logs in; whoever has it gets in")


def _add_passwd(commands: _Commands) -> None:
    parser = commands.add("passwd", _passwd, "print the hash of a password, or put it in place for an instance")
    parser.add_argument("name", nargs="?", metavar="NAME")
    parser.add_argument("--stdin", action="store_true", help="read the password from the first line of stdin")


def _add_install(commands: _Commands) -> None:
    parser = commands.add("install-unit", _install, "make a jlabd that came by pip a service of systemd")
    parser.add_argument("--print", "--dry-run", action="store_true", dest="show", help="only print what is written")
    parser.add_argument("--uninstall", action="store_true", help="stop the service and take away what was written")
    parser.add_argument(
        "--force", action="store_true", help="also replace files that were edited; they become PATH.old"
    )


def _add_amending(commands: _Commands) -> None:
    from jlabd.ctl import amending

    amending.add_options(commands.add("add", amending.add, "add an instance to the configuration"))
    parser = commands.add("remove", amending.remove, "remove an instance from the configuration")
    parser.add_argument("name", metavar="NAME")
    amending.common_options(parser)


def _add_completion(commands: _Commands) -> None:
    parser = commands.add("completion", _completion, "print the script by which a shell completes this command")
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def _status(options: argparse.Namespace) -> int:
    if options.watch:
        from jlabd.ctl.watch import watch as show
    else:
        from jlabd.ctl.status import status as show
    return show(options.socket, options.names, as_json=options.json, colour=not options.no_color)


def _lifecycle(options: argparse.Namespace) -> int:
    from jlabd.ctl.lifecycle import ask

    if bool(options.names) == options.all:
        options.usage("name the instances, or say --all")
    return ask(options.socket, options.verb, options.names, wait=not options.no_wait, timeout_s=options.timeout)


def _signal(options: argparse.Namespace) -> int:
    from jlabd.ctl.requests import send_signal

    return send_signal(options.socket, options.name, options.signal)


def _reload(options: argparse.Namespace) -> int:
    from jlabd.ctl.requests import reload

    return reload(options.socket, dry_run=options.dry_run, as_json=options.json)


def _reexec(options: argparse.Namespace) -> int:
    from jlabd.ctl.requests import reexec

    return reexec(options.socket)


def _check(options: argparse.Namespace) -> int:
    from jlabd.ctl.requests import check

    return check(options.path)


def _doctor(options: argparse.Namespace) -> int:
    from jlabd.control.wire import DEFAULT_SOCKET
    from jlabd.ctl.requests import doctor

    words = (*(("--config", options.config) if options.config else ()), *(("--json",) if options.json else ()))
    return doctor(options.socket if options.socket != DEFAULT_SOCKET else None, words)


def _import(options: argparse.Namespace) -> int:
    from jlabd.ctl.requests import import_files

    return import_files(options.files, options.name)


def _install(options: argparse.Namespace) -> int:
    from jlabd.ctl.requests import install

    given = vars(options)
    return install([f"--{word}" for name, word in _INSTALL_WORDS if given[name]])


def _logs(options: argparse.Namespace) -> int:
    from jlabd.ctl.streams import logs

    return logs(options.socket, options.name, lines=options.lines, follow=options.follow)


def _events(options: argparse.Namespace) -> int:
    from jlabd.ctl.streams import events

    return events(options.socket, lines=options.lines, follow=options.follow, as_json=options.json)


def _url(options: argparse.Namespace) -> int:
    from jlabd.ctl.requests import url

    return url(options.socket, options.name, token=options.token)


def _completion(options: argparse.Namespace) -> int:
    from jlabd.ctl.completion import script

    return script(options.shell, parser(options.socket))


def _passwd(options: argparse.Namespace) -> int:
    from jlabd.ctl.requests import passwd

    return passwd(options.socket, options.name, from_stdin=options.stdin)


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number of lines")


def _seconds(text: str) -> float:
    from jlabd.config.quantities import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
