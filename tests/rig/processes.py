"""Looking at processes from outside."""

import os
from pathlib import Path


def is_alive(pid):
    """Return whether `pid` runs; a zombie counts as gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def with_argument(needle):
    """Return the pids of all living processes that have `needle` in their command line."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if needle.encode() in words and is_alive(int(entry)):
                found.append(int(entry))
    return found


def open_descriptors(pid):
    """Return what the open descriptors of `pid` are, sorted."""
    kinds = []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            kinds.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
        except OSError:
            continue
    return sorted(kinds)
