"""Background work that is neither lost nor in everybody's way."""

import asyncio
import time

from jlabd.daemon.tasks import Turnstile


async def test_many_at_the_turnstile_leave_room_for_others():
    """A hundred tasks that each take 10 ms of the processor hold up the event loop for one of them at a time."""
    turnstile = Turnstile()

    async def work():
        await turnstile.come()
        time.sleep(0.01)  # noqa: ASYNC251  (stands for a fork, which nobody can await)

    tasks = [asyncio.create_task(work()) for _ in range(100)]
    turns = 0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 100


async def test_who_is_called_off_at_the_turnstile_bars_nobody():
    """A task that is cancelled while it waits for its turn leaves the way free."""
    turnstile = Turnstile()
    tasks = [asyncio.create_task(turnstile.come()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    async with asyncio.timeout(1):
        await tasks[2]
