"""Leaves a grandchild in a session of its own and ends, as daemons do; with "clean" its environment is empty."""

import os
import sys
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        environment = {} if "clean" in sys.argv else dict(os.environ)
        os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)", *sys.argv[1:]], environment)
    os._exit(0)
os.wait()
if "stay" in sys.argv:
    time.sleep(1000)
