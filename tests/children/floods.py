"""Writes numbered lines as fast as it can: floods.py COUNT [LENGTH [PAUSE_S]]; says nothing else."""

import os
import sys
import time

count, length, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
for number in range(count):
    line = b"%09d " % number
    os.write(1, line + b"x" * (length - len(line) - 1) + b"\n")
    if pause:
        time.sleep(pause)
