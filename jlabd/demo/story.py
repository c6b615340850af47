"""What the user sees of the demo: the labs coming up, a link for each, then the events; all of it by `jlabctl`."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from jlabd.demo.children import Process, capture, end, start
from jlabd.demo.place import DemoError, Place, program
from jlabd.demo.settings import LABS
from jlabd.demo.show import progress, say

READER_GONE = 141
"""Exit status of a jlabctl whose reader has gone."""
READY_S = 180.0
"""How long two labs may take to be ready, on a machine that is slow or has cold disks."""
LOOK_S = 0.3
"""Pause between two looks at them."""


async def tell(place: Place) -> None:
    """Show how the labs come up, then what happens, until nobody reads any more. Raises DemoError, OSError."""
    say(f"Two labs behind nginx are starting; everything lies in {place.root}")
    began = time.monotonic()
    await _until_ready(place, began)
    say(f"Ready after {time.monotonic() - began:.0f} s. Each of these links logs in:\n")
    for name in LABS:
        say(f"    {name:<8}{await _link(place, name)}")
    say("\nTo look and control, in another terminal:\n")
    say("    .venv/bin/jlabctl --socket .demo/run/control.sock status\n")
    say("Ctrl-C ends the demo. What happens until then:\n")
    await _follow(place)


async def _until_ready(place: Place, began: float) -> None:
    while True:
        states = await _states(place)
        if states and all(state["state"] == "ready" for state in states):
            return
        waited = time.monotonic() - began
        what = ", ".join(f"{state['name']} is {state['state']}" for state in states) or "jlabd is starting"
        for state in states:
            if state["state"] == "failed":
                raise DemoError(f"{state['name']} has failed: {state['reason']}. Its log: {place.log}")
        if waited > READY_S:
            raise DemoError(f"After {waited:.0f} s {what}. The logs are in {place.log}")
        progress(f"{what} ({waited:.0f} s)")
        await asyncio.sleep(LOOK_S)


async def _states(place: Place) -> list[dict[str, Any]]:
    """Return the instances of the status document; none while the daemon does not answer yet."""
    _, output = await capture(_jlabctl(place, "status", "--json"))
    try:
        instances: list[dict[str, Any]] = json.loads(output)["instances"]
    except ValueError:
        return []
    return instances


async def _link(place: Place, name: str) -> str:
    status, output = await capture(_jlabctl(place, "url", name, "--token"))
    if status != 0:
        raise DemoError(f"jlabctl could not say the address of {name} (exit status {status}).")
    return output.strip()


async def _follow(place: Place) -> None:
    """Pass on the events until their reader is gone."""
    while True:
        follower = await start(_jlabctl(place, "events", "--follow"))
        if await _ended(follower) == READER_GONE:
            return
        await asyncio.sleep(1)  # the daemon hung up; it may be back, or the demo is about to notice its end


async def _ended(process: Process) -> int:
    try:
        return await process.wait()
    except asyncio.CancelledError:
        await end(process, patience_s=2)
        raise


def _jlabctl(place: Place, *words: str) -> list[str]:
    return [program("jlabctl"), "--socket", str(place.control_socket), *words]
