"""Writes all that it was born with to its output, as JSON, and ends."""

import json
import os
import re
import sys
from pathlib import Path

descriptors = {}
for number in os.listdir("/proc/self/fd"):
    try:
        descriptors[number] = os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:  # the one that listed the folder
        continue
status = Path("/proc/self/status").read_text()
umask = os.umask(0o777)
told = {
    "descriptors": descriptors,
    "masks": dict(re.findall(r"^(Sig(?:Blk|Ign|Cgt)):\t(\w+)", status, re.MULTILINE)),
    "uids": os.getresuid(),
    "gids": os.getresgid(),
    "groups": sorted(os.getgroups()),
    "umask": umask,
    "env": dict(os.environ),
    "cwd": os.getcwd(),
    "pid": os.getpid(),
    "sid": os.getsid(0),
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "oom": int(Path("/proc/self/oom_score_adj").read_text()),
    "argv": sys.argv[1:],
}
os.write(1, json.dumps(told).encode())
