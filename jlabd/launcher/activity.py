"""Where jupyter_server does not know, or say, what its kernels and terminals do.

A lab that sleeps when nothing goes on in it depends on that.

Runs under the Python of somebody else's environment: 3.8 or newer.
"""

import datetime as dt
from typing import Any, List

RECONNECT_MS = 20
ASIDE = frozenset(
    ("comm_info_request", "debug_request", "interrupt_request", "kernel_info_request", "shutdown_request")
)
"""Requests that kernels answer beside a cell that runs, or that nobody asked for: those that jupyter_server 2 leaves
out of a kernel's state, see its option `untracked_message_types`."""


def now() -> dt.datetime:
    """Return the time, as jupyter_server keeps it."""
    return dt.datetime.now(dt.timezone.utc)


def note_terminal_output() -> None:
    """Have the output of a terminal that nobody watches count as activity, which jupyter_server 1 does not do."""
    try:
        from jupyter_server.terminal.terminalmanager import TerminalManager
    except ImportError:  # no terminals
        return

    def note(_self: Any, terminal: Any) -> None:
        terminal.last_activity = now()

    TerminalManager.pre_pty_read_hook = note


def list_kernels_at_any_time() -> None:
    """Have a list of kernels leave out one that is just being entered there.

    It is in the table a moment before its last activity is; who asks in between would get a 500.
    """
    from jupyter_server.services.kernels.kernelmanager import MappingKernelManager
    from tornado.web import HTTPError
    from traitlets import TraitError

    plain_model = MappingKernelManager.kernel_model

    def kernel_model(self: Any, kernel_id: str) -> Any:
        try:
            return plain_model(self, kernel_id)
        except (AttributeError, TraitError) as error:
            raise HTTPError(404, f"Kernel is not there yet: {kernel_id}") from error

    MappingKernelManager.kernel_model = kernel_model


def hear_the_first_cell() -> None:
    """Have the server listen to a kernel before that can be asked to run anything.

    The server connects before the kernel is there, and then tries again only every 100 to 200 ms. A cell that runs at
    once ("Run All" while the kernel starts, or restarts) says meanwhile that the kernel is busy, and nobody hears it.
    """
    import zmq
    from jupyter_server.services.kernels.kernelmanager import MappingKernelManager

    plain_start = MappingKernelManager.start_watching_activity

    def start_watching_activity(self: Any, kernel_id: str) -> None:
        # What new sockets begin with; a kernel of another kind may have no context.
        options = getattr(getattr(self._kernels[kernel_id], "context", None), "sockopts", {})
        others = dict(options)
        options[zmq.RECONNECT_IVL] = RECONNECT_MS
        try:
            plain_start(self, kernel_id)
        finally:
            options.clear()
            options.update(others)

    MappingKernelManager.start_watching_activity = start_watching_activity


def note_what_kernels_compute() -> None:
    """Have a kernel count as busy until its cell has ended, whatever it answers meanwhile.

    A kernel says "busy" and "idle" around each answer, also one that its control channel gives while a cell runs: to
    the server itself, which asks at each connection, and to a debugger. jupyter_server 1 takes that "idle" for the
    cell's.
    """
    from jupyter_client.session import Session
    from jupyter_server.services.kernels.kernelmanager import MappingKernelManager

    plain_start = MappingKernelManager.start_watching_activity

    def start_watching_activity(self: Any, kernel_id: str) -> None:
        plain_start(self, kernel_id)
        kernel = self._kernels[kernel_id]
        session = Session(config=kernel.session.config, key=kernel.session.key)

        def record_activity(parts: List[bytes]) -> None:
            self.last_kernel_activity = kernel.last_activity = now()
            message = session.deserialize(session.feed_identities(parts)[1], content=False)
            if message["header"]["msg_type"] == "status":
                state = session.unpack(message["content"])["execution_state"]
                kernel.execution_state = next_state(kernel.execution_state, state, message["parent_header"])

        kernel._activity_stream.on_recv(record_activity)  # noqa: SLF001  (no public way)

    MappingKernelManager.start_watching_activity = start_watching_activity


def next_state(before: str, said: str, asked: Any) -> str:
    """Return a kernel's state once it has `said` that it is busy or idle for the request with the header `asked`."""
    if (asked or {}).get("msg_type") not in ASIDE:
        return said
    return "idle" if before == "starting" and said != "starting" else before
