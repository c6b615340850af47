"""Does, inside an emulated system, what a test asks for over the serial line: one JSON text per line and answer."""

import http.client
import json
import os
import socket
import subprocess
import sys
import tty
from pathlib import Path


class Connection(http.client.HTTPConnection):
    """An HTTP connection to a unix socket or a port."""

    def connect(self):
        """Connect to the path that is given as host."""
        if not self.host.startswith("/"):
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def run(words, timeout_s):
    """Run a command; return [status, what it printed]."""
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )
    return [done.returncode, done.stdout]


def get(path, target, timeout_s):
    """Ask a server on a unix socket, or jlabd's endpoint; return [status, body]."""
    connection = Connection(path, None if path.startswith("/") else 9180, timeout=timeout_s)
    try:
        connection.request("GET", target, headers={"Host": "localhost"})
        answer = connection.getresponse()
        return [answer.status, answer.read().decode(errors="replace")]
    finally:
        connection.close()


def read(path):
    """Return a file's text."""
    return Path(path).read_text()


def put(path, text, mode):
    """Write a file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    Path(path).chmod(mode)


VERBS = {"run": run, "get": get, "read": read, "put": put}


def answer(question):
    """Return what came of a question: {"said": …}, or {"error": …}."""
    try:
        verb, *words = json.loads(question)
        return {"said": VERBS[verb](*words)}
    except (OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
        return {"error": repr(error)}


def main():
    """Answer until the system is switched off."""
    line = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line)
    with open(line, "r+b", buffering=0) as serial:
        serial.write(b"\n{}\n")
        while question := serial.readline():
            text = json.dumps(answer(question)) + "\n"
            serial.write(text.encode())


main()
