"""Visitors: raw requests over an instance's socket, and what comes back."""

import asyncio

NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html,*/*;q=0.8"}


def request(method="GET", path="/alice/lab?token=secret", body=b"", **headers):
    """Return the bytes of a request."""
    fields = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{length}{fields}\r\n".encode() + body


async def exchange(sock, data=None):
    """Send `data` and return everything that comes back until the other side closes."""
    reader, writer = await asyncio.open_unix_connection(sock.getsockname())
    writer.write(request() if data is None else data)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


def parsed(response):
    """Split a response into status, headers in lower case, and body."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), {key.lower(): value for key, value in headers.items()}, body
