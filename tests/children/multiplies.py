"""Forks all the time, and when it is asked to end it forks some more; at most a hundred live at once."""

import os
import signal
import time


def more(_number, _frame):
    """Answer SIGTERM by forking."""
    if os.fork() == 0:
        os.setsid()


signal.signal(signal.SIGTERM, more)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
until = time.monotonic() + 60
while time.monotonic() < until:
    if os.fork() == 0:
        os.setsid()
        time.sleep(0.3)
        if os.fork() == 0:
            time.sleep(0.5)
        os._exit(0)
    time.sleep(0.01)
