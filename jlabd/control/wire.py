"""What goes over the control socket, as both ends see it: JSON, and names in addresses. Quick to import.

Answers are `application/json`; answers that grow are `application/x-ndjson`, one JSON value a line; logs are
`application/octet-stream`; errors are `application/problem+json` with `title`, `status` and `detail`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_SOCKET = "/run/jlabd/control.sock"

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class _PlainJson:
    """What the interpreter's JSON scanner wants to know: JSON as usual."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def loads(data: bytes) -> Any:
    """Decode one JSON value. Raises ValueError.

    The interpreter's own scanner does it without the package around it: `json` imports `re`, and that takes longer than
    all the rest of `jlabctl status`.
    """
    text = data.decode().strip()
    try:
        from _json import make_scanner  # noqa: PLC0415  (not in every interpreter)

        scan = make_scanner(_PlainJson)  # type: ignore[arg-type]  # it takes anything with these attributes
    except (ImportError, AttributeError, TypeError):
        return _loads_slowly(text)
    try:
        value, end = scan(text, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


def _loads_slowly(text: str) -> Any:
    import json  # noqa: PLC0415  (slow to import)

    return json.loads(text)


def dumps(value: Any) -> bytes:
    """Encode one JSON value on one line, without the newline."""
    import json  # noqa: PLC0415  (slow to import)

    return json.dumps(value).encode()


def quote(text: str) -> str:
    """Return `text` as one part of a path or query."""
    return "".join(chr(b) if b in _UNRESERVED else f"%{b:02X}" for b in text.encode(errors="surrogateescape"))
