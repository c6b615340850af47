"""One GET to an instance's own server, over its socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, assert_never

import aiohttp

from jlabd.spec import Listen, TcpListen, UnixListen
from jlabd.unixsocket import address

MAX_BYTES = 64 * 1024
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (nothing is bound: it says where to connect instead)


class NoAnswerError(Exception):
    """The server gave no answer; the text is a sentence that says why."""


async def get(listen: Listen, path: str, timeout_s: float, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Return status and the beginning of the body of the server's answer. Raises NoAnswerError.

    The connection is of this request alone: one that was kept would hide that nobody accepts new ones any more.
    """
    try:
        with _connector(listen) as connector:
            async with (
                aiohttp.ClientSession(
                    base_url=_base(listen),
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=timeout_s),
                    auto_decompress=False,
                ) as session,
                session.get(path, headers={"Host": "localhost", **headers}, allow_redirects=False) as answer,
            ):
                return answer.status, await _beginning(answer.content)
    except TimeoutError as error:
        raise NoAnswerError(f"no answer within {timeout_s:g} s") from error
    except aiohttp.ClientConnectorError as error:
        raise NoAnswerError(f"cannot connect to {listen}: {error.os_error.strerror}") from error
    except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
        raise NoAnswerError(f"the connection ended without an answer ({type(error).__name__})") from error


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that `body` is. Raises ValueError for everything else, however malicious."""
    try:
        found = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004  (the text is wrong, not the caller)
    return found


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    body = b""
    async for chunk in content.iter_any():
        body += chunk
        if len(body) >= MAX_BYTES:
            break
    return body


@contextmanager
def _connector(listen: Listen) -> Iterator[aiohttp.BaseConnector]:
    match listen:
        case UnixListen(path):
            with address(path) as short:
                yield aiohttp.UnixConnector(short, force_close=True)
        case TcpListen():
            yield aiohttp.TCPConnector(force_close=True, use_dns_cache=False)
        case _:
            assert_never(listen)


def _base(listen: Listen) -> str:
    match listen:
        case UnixListen():
            return "http://localhost"
        case TcpListen(host, port):
            host = WILDCARDS.get(host, host)
            return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        case _:
            assert_never(listen)
