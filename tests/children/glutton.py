"""A small web server on the inherited socket (fd 3) that uses as much of the machine as it is asked to.

?eat=MB: takes so much memory itself. ?read=MB: has so much of a file in the page cache. ?child=MB: a child of it takes
memory; how it ended. ?fork=N: so many children that stay; how many came to be. ?spin=S: computes in two processes for
so long. Whatever is asked is answered as JSON. Arguments like eat=MB are obeyed before it serves.
"""

import json
import os
import signal
import sys
import tempfile
import time
from urllib.parse import parse_qsl, urlsplit

from web import Handler, Server

kept = []


def eat(megabytes):
    """Hold and use so much memory; return how much."""
    kept.append(bytearray(os.urandom(1 << 20)) * megabytes)
    return megabytes


def read(megabytes):
    """Have so much of a file in the page cache; return how much."""
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(1 << 20) * megabytes)
        kept.append(os.dup(file.fileno()))
    return megabytes


def child(megabytes):
    """Have a child eat; return the signal that ended it, 0 if none did."""
    pid = os.fork()
    if pid == 0:
        eat(megabytes)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


def fork(number):
    """Start children that stay; return how many there are, fewer if the system refuses more."""
    for made in range(number):
        try:
            if os.fork() == 0:
                signal.pause()
        except BlockingIOError:
            return made
    return number


def spin(seconds):
    """Compute in this process and a child for so long; return how long it took."""
    pid = os.fork()
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        pass
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return time.monotonic() - began


class Glutton(Handler):
    """Does what the query asks for."""

    def body(self):
        """Do it, and return what came of it."""
        query = parse_qsl(urlsplit(self.path).query)
        return json.dumps({verb: VERBS[verb](int(amount)) for verb, amount in query}).encode()


VERBS = {"eat": eat, "read": read, "child": child, "fork": fork, "spin": spin}
for word in sys.argv[1:]:
    VERBS[word.partition("=")[0]](int(word.partition("=")[2]))
server = Server()
server.RequestHandlerClass = Glutton
server.daemon_threads = True
sys.exit(server.serve_forever())
