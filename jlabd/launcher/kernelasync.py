"""Let asyncio work in a notebook as in a program.

A cell runs inside the event loop of its kernel, where asyncio refuses to run another one. After `patch`

- `asyncio.run()`, `asyncio.Runner` and loops that the notebook makes run while the kernel's waits, as it waits for any
  other cell; they get all that a plain program gets, the main task that an interrupt cancels and the tasks that are
  cancelled at the end;
- `run_until_complete()` of the kernel's own loop, which is running already, goes through nest_asyncio2 or nest_asyncio.
  One of them came with ipykernel, and it is imported at the first such call only.

Top-level `await` stays what it is. Runs in the Python of any kernel, 3.8 or newer; see `kernelstart.py`.
"""

import asyncio
import contextlib
import functools
import importlib
from asyncio import base_events, events, tasks
from typing import Any, Callable, Iterator

NESTING = ("nest_asyncio2", "nest_asyncio")


@contextlib.contextmanager
def outside(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Leave `loop`, which runs in this thread, for as long as another one does."""
    swap = getattr(tasks, "_swap_current_task", None)  # Python 3.12 and newer
    task = swap(loop, None) if swap else None
    events._set_running_loop(None)  # noqa: SLF001  (asyncio has no other way to say it)
    try:
        yield
    finally:
        events._set_running_loop(loop)  # noqa: SLF001
        if swap:
            swap(loop, task)
        events.set_event_loop(loop)


def freed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` so that it works inside a running loop, too."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        loop = events._get_running_loop()  # noqa: SLF001
        if loop is None:
            return function(*args, **kwargs)
        with outside(loop):
            return function(*args, **kwargs)

    return run


def nested(name: str) -> Callable[..., Any]:
    """Return the method `name` of loops so that it works inside a running loop, be that the same one or another."""
    function = getattr(base_events.BaseEventLoop, name)

    @functools.wraps(function)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        loop = events._get_running_loop()  # noqa: SLF001
        if loop is None:
            return function(self, *args, **kwargs)
        if loop is not self:
            with outside(loop):
                return function(self, *args, **kwargs)
        able = getattr(type(self), name) if let_nest(self) else run
        # Without help asyncio's own says that the loop is running already.
        return (function if able is run else able)(self, *args, **kwargs)

    return run


def let_nest(loop: Any) -> bool:
    """Let `loop` run within itself; return whether it can."""
    mine = asyncio.run
    for name in NESTING:
        try:
            importlib.import_module(name).apply(loop)
        except (ImportError, ValueError):  # not there, or not for loops of this kind
            continue
        asyncio.run = mine
        return True
    return False


def patch() -> None:
    """Change asyncio in this process."""
    asyncio.run = freed(asyncio.run)
    if hasattr(asyncio, "Runner"):
        asyncio.Runner.run = freed(asyncio.Runner.run)  # type: ignore[method-assign]
        asyncio.Runner.close = freed(asyncio.Runner.close)  # type: ignore[method-assign]
    for name in ("run_until_complete", "run_forever"):
        setattr(base_events.BaseEventLoop, name, nested(name))
