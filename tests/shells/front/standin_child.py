"""A lab in small: accepts on the listening socket that it inherited as descriptor 3 and answers every request."""

import socket
import sys

listener = socket.socket(fileno=3)
listener.setblocking(True)
for _ in range(int(sys.argv[1])):
    connection, _ = listener.accept()
    connection.setblocking(True)
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nchild")
    connection.close()
