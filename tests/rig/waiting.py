"""Waiting for what has no event: a condition, looked at again and again until a deadline."""

import asyncio
import time


def until(condition, timeout_s=30.0, what="", every_s=0.02):
    """Return the first true value of `condition()`; fail after `timeout_s` seconds, saying what was waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        time.sleep(every_s)


async def eventually(condition, timeout_s=10.0, what=""):
    """Return the first true value of `condition()` while the event loop runs; fail after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        await asyncio.sleep(0.01)
