"""A server that takes its time: shares fd 3 from the beginning, accepts there when it reads a line, ends at EOF."""

import asyncio
import hashlib
import os
import socket
import sys

from aiohttp import web


async def upload(request):
    """Say what came."""
    digest = hashlib.sha256()
    async for chunk in request.content.iter_any():
        digest.update(chunk)
    return web.json_response({"pid": os.getpid(), "sha256": digest.hexdigest()})


async def stream(request):
    """Send 8 MB in pieces, with pauses."""
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(128):
        await response.write(bytes([number]) * 65536)
        await asyncio.sleep(0.001)
    return response


async def echo(request):
    """Send each message back."""
    channel = web.WebSocketResponse()
    await channel.prepare(request)
    async for message in channel:
        await channel.send_str(message.data)
    return channel


async def who(request):
    """Say who answers, and what was asked for."""
    connection = request.headers.get("Connection")
    return web.json_response({"pid": os.getpid(), "connection": connection, "path": request.path})


async def main():
    """Serve."""
    app = web.Application(client_max_size=0)
    app.add_routes([web.post("/alice/upload", upload), web.get("/alice/stream", stream), web.get("/alice/ws", echo)])
    app.router.add_route("*", "/{any:.*}", who)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    loop = asyncio.get_running_loop()
    line = await loop.run_in_executor(None, sys.stdin.readline)
    if line:
        await web.SockSite(runner, socket.socket(fileno=3)).start()
        print("serving", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
    await runner.cleanup()


asyncio.run(main())
