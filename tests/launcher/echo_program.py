"""A program behind the relay: echoes bytes until the client's end, then says goodbye. Arguments: address, delay."""

import os
import signal
import socket
import sys
import threading
import time

where, late = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0
signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
print("program has", sorted(os.listdir("/proc/self/fd"))[:8], [n for n in os.environ if "LISTEN" in n], flush=True)
time.sleep(late)
if where.startswith("/"):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where)
else:
    listener = socket.create_server(("127.0.0.1", int(where)))
listener.listen(1 if where.startswith("/") else 128)  # TCP drops what does not fit, and tries again ever later


def serve(connection):
    with connection:
        while data := connection.recv(65536):
            if data == b"quit":
                return
            connection.sendall(data)
        connection.sendall(b"goodbye")


while True:
    client, _ = listener.accept()
    threading.Thread(target=serve, args=(client,), daemon=True).start()
