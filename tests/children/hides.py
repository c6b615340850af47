"""Drops every mark that it carries: environment, limit, session and parents."""

import os
import resource
import sys
import time

resource.setrlimit(resource.RLIMIT_RTTIME, (1_000_000, 1_000_000))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)", *sys.argv[1:]], {})
    os._exit(0)
os.wait()
time.sleep(1000)
