"""Looking with somebody else's eyes: what root can open says nothing about what a lab can."""

from __future__ import annotations

import json
import os
import pwd
import select
import signal
import time
from collections.abc import Callable
from typing import Any

MOST = 1 << 20
"""Bytes of an answer."""
PATIENCE_S = 10.0
"""A file system that takes longer hangs."""


class NotAllowedError(Exception):
    """This process cannot become that account."""


def look(account: pwd.struct_passwd, question: Callable[[], Any]) -> Any:
    """Return the answer to `question`, asked with the rights of `account`, in JSON's types.

    It is asked in another process, which runs no code but ours. Raises NotAllowedError, OSError.
    """
    if account.pw_uid == os.geteuid():
        return question()
    if os.geteuid() != 0:
        raise NotAllowedError(f"only root can look as {account.pw_name}")
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            os.setgroups(groups)
            os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
            os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
            with open(writing, "wb") as pipe:  # noqa: PTH123  (a descriptor)
                pipe.write(json.dumps(question()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    answer = _read(reading, time.monotonic() + PATIENCE_S)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, os.WNOHANG if answer is None else 0)  # what hangs in the kernel does not end either
    if answer is None:
        raise OSError(f"{account.pw_name}'s files do not answer within {PATIENCE_S:g} s")
    try:
        return json.loads(answer)
    except ValueError:
        raise OSError(f"cannot look as {account.pw_name}") from None


def _read(pipe: int, deadline: float) -> bytes | None:
    """Return all that comes until the other end is closed, None if that takes too long; close the pipe."""
    answer = b""
    with open(pipe, "rb", buffering=0) as file:
        while len(answer) < MOST:
            if not select.select([file], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            if not (data := file.read(MOST)):
                break
            answer += data
    return answer
