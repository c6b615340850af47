"""An event loop in which time passes only while nothing else is to be done, and then at once."""

import asyncio
import selectors


class _Impatient(selectors.DefaultSelector):
    """A selector that never waits: what it was to wait for has passed."""

    def __init__(self):
        super().__init__()
        self.time = 1000.0

    def select(self, timeout=None):
        """Return what is ready now; if that is nothing, it is later now."""
        ready = super().select(0)
        assert ready or timeout is not None, "everybody waits for an event that nobody will bring about"
        if not ready:
            self.time += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock begins at 1000 s. Only for what needs no thread, process or network."""

    def __init__(self):
        self._impatient = _Impatient()
        super().__init__(self._impatient)

    def time(self):
        """Return the virtual time."""
        return self._impatient.time


def in_virtual_time(work):
    """Run the coroutine `work` to its end; return its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
