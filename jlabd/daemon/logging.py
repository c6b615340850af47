"""The daemon's own log: sentences with key=value details, on stderr."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import Any

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import EventDict, Processor, WrappedLogger

PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""Level → syslog priority, as systemd reads it from the start of a line (sd-daemon(3))."""


def configure(level: str, form: str) -> None:
    """Set up structlog. `form` is auto, journal, console or json; auto looks where stderr goes."""
    logging.getLogger("aiohttp.server").addFilter(_is_no_clients_fault)
    shared: list[Processor] = [structlog.processors.add_log_level, structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, *_renderer(_form(form))],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=False,
    )


def _is_no_clients_fault(record: logging.LogRecord) -> bool:
    """Leave requests that are no HTTP out: everybody on the machine could fill the log with them."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


class _Stderr:
    """Writes lines to stderr, as far as it takes them: a full disk or a closed terminal must not stop the daemon."""

    def msg(self, line: str) -> None:
        """Write one line."""
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)

    log = debug = info = warning = error = critical = exception = msg


def _form(form: str) -> str:
    if form != "auto":
        return form
    return "journal" if os.environ.get("JOURNAL_STREAM") else "console"


def _renderer(form: str) -> list[Processor]:
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    match form:
        case "json":
            return [stamp, structlog.processors.JSONRenderer()]
        case "journal":
            return [_journal_line]
        case _:
            return [stamp, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]


def _journal_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    """Render without time, which the journal has, and with the priority that it understands."""
    priority = PRIORITIES.get(event.pop("level"), 6)
    sentence = event.pop("event")
    trace = event.pop("exception", "")
    details = " ".join(f"{key}={_quoted(value)}" for key, value in event.items())
    lines = f"{sentence} {details}".rstrip() + (f"\n{trace}" if trace else "")
    return "\n".join(f"<{priority}>{line}" for line in lines.splitlines())


def _quoted(value: Any) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text and '"' not in text else repr(text)
