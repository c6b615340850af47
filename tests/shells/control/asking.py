"""Plain HTTP over the control socket, as a program without our client would speak it."""

import json

from tests.shells.control.fakes import ask


def raw(method, path, body=None):
    content = b"" if body is None else json.dumps(body).encode()
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def parsed(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), body


async def call(path, method, target, body=None):
    status, head, content = parsed(await ask(path, raw(method, target, body)))
    return status, _unchunked(content) if "chunked" in head else content


def _unchunked(body):
    content = b""
    while body:
        length, _, body = body.partition(b"\r\n")
        content, body = content + body[: int(length, 16)], body[int(length, 16) + 2 :]
    return content


def lines(body):
    return [json.loads(line) for line in body.splitlines()]
