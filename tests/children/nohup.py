"""Does what `nohup PROGRAM &` in a terminal does: a job of its own that ignores SIGHUP."""

import os
import pty
import sys
import time

pid, terminal = pty.fork()
if pid == 0:
    os.execvp(
        "sh",
        [
            "sh",
            "-c",
            'set -m; nohup "$0" -c "import time; time.sleep(1000)" "$@" & wait',
            *sys.orig_argv[:1],
            *sys.argv[1:],
        ],
    )
time.sleep(1000)
