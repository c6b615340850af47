"""Starts a child in a session of its own, and waits."""

import subprocess
import sys
import time

subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", *sys.argv[1:]], start_new_session=True)
time.sleep(1000)
