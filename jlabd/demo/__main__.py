"""`python -m jlabd.demo`."""

import sys

INTERRUPTED = 130

try:
    from jlabd.demo.run import main

    status = main()
except KeyboardInterrupt:  # before the demo listens to signals: nothing runs yet
    status = INTERRUPTED
sys.exit(status)
