"""Asking the running nginx which generation it has in force: a signal that was sent is not a configuration loaded.

nginx is asked where visitors ask it, on its first address, from this machine. A unix socket of our own would be more
private, but nginx refuses to start where it finds such a socket left over from an nginx that was killed, or no folder
for it: what serves other people's sites must not depend on us.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from jlabd.nginx import allowed, marks
from jlabd.spec import NginxSpec

ANSWER_S = 3.0
"""How long nginx may take for one answer."""

LIVE_S = 15.0
"""How long nginx may take from being told of a configuration until all its workers have it."""

_LOOK_S = 0.05
_ENOUGH = 4
"""Answers in a row, _LOOK_S apart. nginx tells its old workers to accept no more 0.1 s after the new ones run."""

_PROXIED = b"PROXY UNKNOWN\r\n"
_Place = tuple[str, int, bool]
_behind_proxy: set[_Place] = set()
"""Addresses that want this line first, because an administrator's server there listens with proxy_protocol."""

_LONGEST_ANSWER = 4096
_ANSWER = re.compile(rb"HTTP/1\.[01] (\d{3}).*?\r\n\r\n(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """What nginx said."""

    mark: str | None
    """The mark of the generation in force; None if it did not answer, or not with one of ours."""
    words: str
    """What follows “nginx” in a sentence."""
    silent: bool = False
    """It takes connections, or seems to, and says nothing: it may be overloaded."""
    orphaned: bool = False
    """It serves, but its master process is gone: nobody can make it load anything."""
    unreadable: bool = False
    """What answers there speaks another protocol."""


def address(nginx: NginxSpec) -> _Place:
    """Return host, port and whether TLS is spoken, of where nginx is asked. Raises RenderError."""
    plain, encrypted = allowed.listens("nginx.listen", nginx.listen)
    host, _, port = (*plain, *encrypted)[0].rpartition(":")
    reachable = {"*": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    return reachable, int(port), not plain


async def ask(nginx: NginxSpec) -> Answer:
    """Ask which generation is in force. Raises RenderError if `nginx` cannot be one's."""
    place, name = address(nginx), marks.host(nginx.config_dir)
    proxied = place in _behind_proxy
    answer = await _ask(place, name, proxied=proxied)
    if answer.mark is None and (proxied or answer.unreadable):
        other = await _ask(place, name, proxied=not proxied)
        if other.mark is not None:
            _behind_proxy.symmetric_difference_update({place})
            return other
    return answer


async def _ask(place: _Place, name: str, *, proxied: bool) -> Answer:
    host, port, _ = place
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(ANSWER_S):
            data = await _exchange(place, name, _PROXIED if proxied else b"")
    except TimeoutError:
        return Answer(None, f"does not answer at {where} within {ANSWER_S:.0f} s", silent=True)
    except ssl.SSLError as error:
        return Answer(None, f"speaks no TLS with us at {where} ({error.reason})", unreadable=True)
    except ConnectionResetError:
        return Answer(None, f"hangs up at {where}", unreadable=True)
    except OSError as error:
        return Answer(None, f"does not answer at {where} ({_reason(error)})")
    return _read(data, where)


def _reason(error: OSError) -> str:
    """Return the system's words; asyncio has others, and none at all for several addresses."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


async def _exchange(place: _Place, name: str, first: bytes) -> bytes:
    """Return what is said to who asks for `name`, having said `first`. Raises OSError."""
    host, port, tls = place
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(first)
        if tls:
            await writer.start_tls(_trusting(), server_hostname=name)
        writer.write(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while len(data) < _LONGEST_ANSWER and (piece := await reader.read(_LONGEST_ANSWER)):
            data += piece
        return data
    finally:
        writer.transport.abort()  # TLS would have us wait for a farewell


def _trusting() -> ssl.SSLContext:
    """Accept any certificate: it is this machine that is asked, and nothing secret is said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _read(data: bytes, where: str) -> Answer:
    found = _ANSWER.fullmatch(data)
    if found is None:
        return Answer(None, f"is not what answers at {where}", unreadable=True)
    said = marks.said(found[2].decode(errors="replace"))
    if found[1] != b"200" or said is None:
        return Answer(None, f"answers at {where}, but without what jlabd wrote for it")
    mark, worker = said
    words = f"answers at {where} with generation {mark.partition(' ')[0]}"
    if _is_orphan(worker):
        return Answer(mark, f"{words}, but its master process is gone: start it again", orphaned=True)
    return Answer(mark, words)


def _is_orphan(worker: int) -> bool:
    """Say whether a process is a worker of nginx without a master; False where that cannot be seen from here."""
    try:
        parent = Path(f"/proc/{worker}/stat").read_bytes().rpartition(b")")[2].split()[1].decode()
        titles = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (worker, parent)]
    except (OSError, IndexError):
        return False
    return titles[0].startswith(b"nginx: worker process") and not titles[1].startswith(b"nginx: master process")


async def steadily(nginx: NginxSpec, wanted: str | None) -> Answer:
    """Ask as often as it takes to see whether every answer is `wanted`; return the first other one, or the last.

    Raises RenderError.
    """
    for _ in range(_ENOUGH - 1):
        answer = await ask(nginx)
        if answer.mark != wanted:
            return answer
        await asyncio.sleep(_LOOK_S)
    return await ask(nginx)


async def until_live(nginx: NginxSpec, wanted: str | None) -> Answer | None:
    """Ask until every answer is `wanted` (None: none of ours), LIVE_S at most; return None, or the last other answer.

    Raises RenderError.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LIVE_S
    in_a_row = 0
    while True:
        answer = await ask(nginx)
        in_a_row = in_a_row + 1 if answer.mark == wanted else 0
        if in_a_row == _ENOUGH:
            return None
        if loop.time() > deadline:
            return answer
        await asyncio.sleep(_LOOK_S)
