"""A small web server on the inherited socket (fd 3); argv may tell it to misbehave.

ignore-term: does not end when asked. hang-on-term: ends 3 s after it was asked. graceful: answers what
it has taken before it ends. die=N: exits with status N at once.
children: starts a plain child, one in a session of its own and a double-forked one, named after the runtime folder.
"""

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers everything with who it is, whole or not at all."""

    wbufsize = -1

    def do_GET(self):
        """Answer; if the query is ?until=PATH, once that exists."""
        _, _, path = self.path.partition("?until=")
        if path:
            print(f"{self.command} waits", flush=True)
        while path and not os.path.exists(path):
            time.sleep(0.01)
        body = self.body()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        """Return what is answered."""
        return str(os.getpid()).encode()

    def do_HEAD(self):
        """Answer without a body."""
        self.do_GET()

    def do_POST(self):
        """Take what is sent, and answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def address_string(self):
        """Unix sockets have no address to log."""
        return "-"


class Server(http.server.ThreadingHTTPServer):
    """Serves on a socket that is bound already."""

    def __init__(self):
        listener = socket.socket(fileno=3)
        super().__init__(listener.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.socket.setblocking(True)

    def get_request(self):
        """Accept; a unix client has no address."""
        connection, _ = self.socket.accept()
        return connection, ("-", 0)


def slowly(_number, _frame):
    """End 3 s from now."""
    time.sleep(3)
    os._exit(0)


def start_children():
    """Leave processes behind that do not end by themselves."""
    name = os.environ["JUPYTER_RUNTIME_DIR"].split("/")[-5] + "-child"
    command = ["sh", "-c", "while :; do sleep 1; done", name]
    subprocess.Popen(command)
    subprocess.Popen(command, start_new_session=True)
    if os.fork() == 0:
        subprocess.Popen(command, start_new_session=True, env={})
        os._exit(0)
    os.wait()


def finish(server):
    """Accept no more, answer what was accepted, and end."""
    server.daemon_threads = False
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.02)
    server.server_close()


def main():
    """Do as argv says."""
    for word in sys.argv[1:]:
        if word == "children":
            start_children()
        if word == "ignore-term":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if word == "hang-on-term":
            signal.signal(signal.SIGTERM, slowly)
        if word.startswith("die="):
            sys.exit(int(word.removeprefix("die=")))
    finish(Server()) if "graceful" in sys.argv else Server().serve_forever()


if __name__ == "__main__":
    main()
