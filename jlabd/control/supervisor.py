"""What the control socket needs from the daemon."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self


class RefusedError(Exception):
    """The daemon cannot do what was asked; the text is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Settled:
    """How a request to start, stop or restart ended."""

    ok: bool
    state: str
    reason: str


class EventStream(Protocol):
    """Events from the moment of subscribing; closed by `with`, it ends after what was queued."""

    def close(self) -> None:
        """Take no more events."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> dict[str, Any]: ...


class Journal(Protocol):
    """What happened: events with at least `seq`, `time`, `instance`, `kind`, `state`, `reason`."""

    def recent(self, n: int) -> list[dict[str, Any]]:
        """Return the last `n` events, the oldest first."""

    def subscribe(self) -> EventStream:
        """Return the events from now on."""


class Supervisor(Protocol):
    """The daemon, as the control socket sees it. Names are of existing instances wherever a name is taken.

    An instance may vanish (by a reload) between two calls: `document` then no longer has it, and the others raise
    RefusedError.
    """

    @property
    def journal(self) -> Journal:
        """What happened."""

    def names(self) -> list[str]:
        """Return the names of all instances, in the order in which they are shown."""

    def owner(self, name: str) -> str | None:
        """Return the account of an instance; None for the daemon's own account or an unknown instance."""

    def document(self) -> dict[str, Any]:
        """Return the status document."""

    def request(self, verb: str, name: str, by: str) -> None:
        """Ask for start, stop or restart, and return at once. `by` says who asked. Raises RefusedError."""

    async def settle(self, verb: str, name: str) -> Settled:
        """Return when what `request` asked for has ended, or at once if it is so already.

        A start or restart ends well when the instance is ready, badly when it is failed, in a backoff or stopped; a
        stop ends when it is stopped. Cancelling only ends the waiting.
        """

    def signal(self, name: str, signum: int, by: str) -> None:
        """Send a signal to the server process. Raises RefusedError, for instance when none runs."""

    async def reload(self, *, dry_run: bool, by: str) -> dict[str, Any]:
        """Apply the edited configuration, or only say what would be done.

        Returns {"ok": bool, "refused": bool, "problems": [str], "added": [name], "changed": {name: [key]},
        "removed": [name], "untouched": int, "nginx": text of the differences, "error": str}. `refused`: nothing was, or
        would be, changed.
        """

    async def reexec(self, by: str) -> str:
        """Replace the daemon by the code on disk, and return a sentence that says so. Raises RefusedError."""

    def url(self, name: str, *, token: bool) -> str:
        """Return the address to open; with `token` one that logs in. Raises RefusedError."""

    async def set_password(self, name: str, password_hash: str, by: str) -> str:
        """Put a password's hash in place, and return a sentence that says what happens next. Raises RefusedError."""

    def log_tail(self, name: str, lines: int) -> bytes:
        """Return the last `lines` lines of the instance's log, whatever bytes they are. Raises RefusedError."""

    def log_follow(self, name: str, lines: int) -> AsyncGenerator[bytes, None]:
        """Yield the last `lines` lines and then what is added, also across rotation, without end."""
