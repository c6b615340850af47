"""The common look of our pages: one document each, nothing from elsewhere, and a Content-Security-Policy that says so.

A page NAME of a package lies in its `templates` folder: `NAME.html.j2`, which extends `look/base.html.j2`, `NAME.css`
and `NAME.js`.
"""

from __future__ import annotations

import base64
import hashlib

from jinja2 import BaseLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["Page"]

_LOOK = PackageLoader("jlabd.look")


class Page:
    """One page: its template, style and script. Every value that is filled in is escaped."""

    def __init__(self, package: str, name: str) -> None:
        own = PackageLoader(package)
        environment = Environment(
            loader=PrefixLoader({"look": _LOOK, "page": own}),
            undefined=StrictUndefined,
            autoescape=True,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._template = environment.get_template(f"page/{name}.html.j2")
        self._style = _text(_LOOK, "base.css") + _text(own, f"{name}.css")
        self._script = _text(own, f"{name}.js")
        self.policy = (
            f"default-src 'none'; connect-src 'self'; img-src data:; style-src {_source(self._style)}; "
            f"script-src {_source(self._script)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        """The value of the Content-Security-Policy header that goes with it."""

    def render(self, **values: object) -> str:
        """Return the document."""
        return self._template.render(values, style=Markup(self._style), script=Markup(self._script))  # noqa: S704


def _text(loader: BaseLoader, name: str) -> str:
    """Return a file of a package as it is."""
    return loader.get_source(Environment(autoescape=True), name)[0]


def _source(text: str) -> str:
    """Allow exactly this text (CSP 3, hash-source)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
