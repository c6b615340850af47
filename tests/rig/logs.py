"""Writing logs as instances do, and reading all that rotation made of them."""

import gzip
import os
import re

from jlabd.processes.logs import open_log
from jlabd.processes.spawn import spawn
from jlabd.spec import LogSpec

SMALL = LogSpec(max_size=256 * 1024, keep=1000, compress=False)
"""Rotates early and keeps everything."""


def write(log_dir, data, name="a"):
    """Append to the instance's log as the instance does."""
    descriptor = open_log(str(log_dir), name)
    os.write(descriptor, data)
    os.close(descriptor)


def backups(log_dir, name="a"):
    """Return the backups, oldest first."""
    found = {
        int(m[1]): path for path in log_dir.iterdir() if (m := re.fullmatch(rf"{name}\.log\.(\d+)(\.gz)?", path.name))
    }
    return [found[number] for number in sorted(found, reverse=True)]


def everything(log_dir, name="a"):
    """Return all that was ever written, as the files tell it."""
    pieces = [gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for p in backups(log_dir, name)]
    return b"".join(pieces) + (log_dir / f"{name}.log").read_bytes()


async def flood(starter, log_dir, count, length, pause=0.0):
    """Start a child that writes numbered lines into the log of `a`; return the process."""
    launch = starter.launch("floods.py", str(count), str(length), str(pause))
    output = open_log(str(log_dir), "a")
    try:
        process = await spawn(launch, listen_fd=None, output_fd=output)
    finally:
        os.close(output)
    starter.started.append(process)
    return process


def lines_of(count, length):
    """Return what the flooding child writes."""
    return [b"%09d " % number + b"x" * (length - 11) for number in range(count)]
