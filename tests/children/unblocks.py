"""Makes the socket whose descriptor argv names blocking, again and again, as who shares it with the daemon can."""

import fcntl
import sys

while True:
    fcntl.fcntl(int(sys.argv[1]), fcntl.F_SETFL, 0)
