"""Filling in templates: ours, and the administrator's own instead of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from jinja2 import ChoiceLoader, DictLoader, PackageLoader, StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from jlabd.nginx import allowed
from jlabd.nginx.allowed import RenderError

_OURS = PackageLoader("jlabd.nginx")


def fill(template: str, values: Mapping[str, object], /, **more: object) -> str:
    """Fill in one of our templates."""
    return _ENVIRONMENT.get_template(template).render(values, **more)


def fill_own(path: str, text: str, values: Mapping[str, object], /, **more: object) -> str:
    """Fill in the administrator's template `text` from the file at `path`; it may include ours. Raises RenderError."""
    environment = _ENVIRONMENT.overlay(loader=ChoiceLoader([_OURS, DictLoader({path: text})]))
    try:
        return environment.get_template(path).render(values, **more)
    except RenderError as error:
        raise RenderError(f"{path}:{_line(error, path)}: {error}") from error
    except TemplateSyntaxError as error:
        raise RenderError(f"{error.name or path}:{error.lineno}: {_sentence(error.message or error)}") from error
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RenderError(f"{path}:{_line(error, path)}: {_sentence(error)}") from error


def _sentence(said: object) -> str:
    return f"{str(said).rstrip('.')}."


def _line(error: Exception, path: str) -> int:
    """Return the line of the template at which `error` came up: jinja2 puts it into the traceback."""
    line, step = 1, error.__traceback__
    while isinstance(step, TracebackType):
        if step.tb_frame.f_code.co_filename in {path, "<template>"}:
            line = step.tb_lineno
        step = step.tb_next
    return line


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=_OURS,
        undefined=StrictUndefined,
        auto_reload=False,
        keep_trailing_newline=True,
        autoescape=False,  # this is not HTML; `allowed` checks each value, `quoted` quotes it
    )
    environment.filters["quoted"] = allowed.quoted
    return environment


_ENVIRONMENT = _environment()
