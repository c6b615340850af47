"""One HTTP request over a unix socket."""

import http.client
import socket


class Connection(http.client.HTTPConnection):
    """An HTTP connection to a unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        """Connect to the path instead of the host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def get(path, target, timeout_s=30, **headers):
    """Return (status, body) of GET `target`."""
    return ask(path, "GET", target, timeout_s, headers=headers)


def ask(path, method, target, timeout_s=30, *, headers=None):
    """Return (status, body) of any request without a body."""
    connection = Connection(path, timeout_s)
    try:
        connection.request(method, target, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()
