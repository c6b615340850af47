"""Asking a server whether it is well.

The daemon holds the listening socket, so that connecting always succeeds: only an answer counts.
"""

from __future__ import annotations

from jlabd.between_us import NOT_ACCEPTING, PROBE_AGENT
from jlabd.jupyter.http import NoAnswerError, get, json_object
from jlabd.spec import Listen

OK = 200
UNAVAILABLE = 503
SERVER_ERRORS = 500


class ProbeError(Exception):
    """The server gave no answer, or a wrong one; the text is a sentence that says which."""


class Prober:
    """Asks servers; many at a time, and without a word between the questions."""

    async def probe(self, listen: Listen, base_url: str, is_lab: bool, timeout_s: float) -> None:
        """Return when the server has given a good answer. Raises ProbeError, CannotAskError after `timeout_s` at most.

        A lab must name its version at `base_url`api; of another program any answer is good that is not its own error.
        """
        path = f"{base_url}api" if is_lab else base_url
        try:
            status, body = await get(listen, path, timeout_s, {"User-Agent": PROBE_AGENT})
        except NoAnswerError as error:
            raise ProbeError(str(error)) from error
        if status == UNAVAILABLE and body == NOT_ACCEPTING.encode():
            raise ProbeError(NOT_ACCEPTING)
        if is_lab:
            _check_lab(path, status, body)
        elif status >= SERVER_ERRORS:
            raise ProbeError(f"answered {status} to GET {path}")


def _check_lab(path: str, status: int, body: bytes) -> None:
    """Raise ProbeError if this is not how JupyterLab answers."""
    if status != OK:
        raise ProbeError(f"answered {status} to GET {path}")
    try:
        known = "version" in json_object(body)
    except ValueError:
        known = False
    if not known:
        raise ProbeError(f"answered GET {path}, but not as JupyterLab does")
