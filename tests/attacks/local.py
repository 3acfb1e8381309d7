"""Local mode, tickets and tokens in addresses: callers from elsewhere that try to pass for local ones."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final

from tests.attacks.attack import PATIENCE, Attack, Result, Target

_KEPT: Final = {name: value for name, value in os.environ.items() if not name.startswith("LG_STREAMING_")}
_OPEN: Final = (("LG_STREAMING_AUTH__ENABLED", "false"),)
_COMMAND: Final = (sys.executable, "-m", "lg_streaming", "serve", "tests.attacks.app:app", "--port=0")
_PATHS: Final = ("/executions", "/executions/e", "/executions/e/updates", "/executions/e/stream", "/health")


async def _status(target: Target, path: str, headers: Iterable[str], *, version: str = "1.1") -> int:
    """The status of a GET with exactly these headers; 0 when the connection ended without one."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(target.host, target.port)
        try:
            writer.write("\r\n".join([f"GET {path} HTTP/{version}", *headers, "Connection: close", "", ""]).encode())
            words = (await reader.readline()).split()
            return int(words[1]) if len(words) > 1 else 0
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def cross_site_pages(target: Target) -> Result:
    """A page of another site loads answers as its own parts, to see which ids there are."""
    own = f"Host: {target.host}:{target.port}"
    through = [
        f"{path} {site}"
        for path in _PATHS
        for site in ("cross-site", "same-site")
        if await _status(target, path, (own, f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: no-cors")) != 403
    ]
    seen = f"answered: {', '.join(through)}" if through else f"{2 * len(_PATHS)} requests got 403"
    return Result(bound="pages of listed origins", seen=seen, held=not through)


async def tokens_in_addresses(target: Target) -> Result:
    """A client puts its token into the address, where logs keep it."""
    own, secret = f"Host: {target.host}:{target.port}", target.token()
    names = ("token", "access_token", "jwt", "id_token", "x")
    paths = (*_PATHS, "/ws", "/socket.io/")
    statuses = [await _status(target, f"{path}?{name}={secret}", (own,)) for path in paths for name in names]
    logged = secret in target.log.read_text(errors="replace")
    taken = sum(status != 400 for status in statuses)
    seen = f"{len(statuses)} addresses: {taken} not refused, the token is {'' if logged else 'not '}in the log"
    return Result(bound="none taken, none logged", seen=seen, held=not taken and not logged)


async def refused_tickets(target: Target) -> Result:
    """An attacker reads a ticket in a log, whose request was refused, and uses it."""
    own = f"Host: {target.host}:{target.port}"
    again: list[int] = []
    for spoilt in ("&since=yesterday", "&token=x", ""):
        ticket = await _ticket(target)
        more = ("Origin: https://evil.example.com",) if not spoilt else ()
        await _status(target, f"/executions/e/stream?ticket={ticket}{spoilt}", (own, *more))
        again.append(await _status(target, f"/executions/e/stream?ticket={ticket}", (own,)))
    return Result(bound="one request", seen=f"second use: {again}", held=again == [401] * len(again))


async def _ticket(target: Target) -> str:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(target.host, target.port)
        head = f"POST /tickets HTTP/1.1\r\nHost: {target.host}:{target.port}\r\nConnection: close\r\n"
        head += f"Authorization: Bearer {target.token()}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        writer.write(f"{head}\r\n{{}}".encode())
        answer = await reader.read()
        writer.close()
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["ticket"])


async def open_to_the_network(target: Target) -> Result:
    """An operator starts a server for the network and forgets authentication."""
    codes: list[int] = []
    for host in ("0.0.0.0", "::"):
        done = await asyncio.to_thread(_start, host)
        codes.append(done.returncode)
        if "LG_STREAMING_AUTH__SECRET" not in done.stderr or "Traceback" in done.stderr:
            return Result(bound="no start", seen=done.stderr[-200:], held=False)
    return Result(bound="no start", seen=f"exit codes {codes}, one line says what to set", held=0 not in codes)


def _start(host: str) -> subprocess.CompletedProcess[str]:
    command = [*_COMMAND, f"--host={host}"]
    return subprocess.run(command, env=_KEPT, capture_output=True, text=True, timeout=60, check=False)


@asynccontextmanager
async def _local_mode(**settings: str) -> AsyncGenerator[int]:
    """A server without authentication; yields its port."""
    process = await asyncio.create_subprocess_exec(
        *_COMMAND,
        env={**_KEPT, **settings},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        yield int(line.split()[1].rpartition(":")[2])
    finally:
        process.terminate()
        await process.wait()


async def visitors_of_a_proxy(target: Target) -> Result:
    """A visitor of a proxy before a server in local mode chooses its `Host`, and the proxy adds what it adds."""
    async with _local_mode() as port:
        local = Target(host=target.host, port=port, pid=target.pid, log=target.log)
        own = f"Host: localhost:{port}"
        through = [
            f"{host} {sign}"
            for host, sign, version in (
                *(
                    ("Host: " + name, "", "1.1")
                    for name in ("localhost", "127.0.0.1", "chat.example.com", "a.localhost")
                ),
                *(
                    (own, f"{name}: 1", "1.1")
                    for name in ("X-Forwarded-For", "Via", "Forwarded", "X-Real-IP", "CF-Ray")
                ),
                (own, "", "1.0"),
                (own, own, "1.1"),
                (own, "Connection: upgrade", "1.1"),
            )
            if await _status(local, "/executions", (host, *([sign] if sign else [])), version=version) not in {400, 401}
        ]
        direct = await _status(local, "/executions", (own,))
    seen = f"let in: {through}" if through else f"12 kinds of request refused, a direct one gets {direct}"
    return Result(bound="direct callers", seen=seen, held=not through and direct == 200)


async def a_star_in_local_mode(target: Target) -> Result:
    """Any web page reads a server in local mode whose origins are `*`."""
    async with _local_mode(LG_STREAMING_GATEWAY__CORS_ORIGINS='["*"]') as port:
        local = Target(host=target.host, port=port, pid=target.pid, log=target.log)
        headers = (f"Host: localhost:{port}", "Origin: https://evil.example.com")
        statuses = [await _status(local, path, headers) for path in _PATHS]
    return Result(bound="listed origins", seen=f"answers {sorted(set(statuses))}", held=set(statuses) == {403})


ATTACKS: list[Attack] = [
    Attack("3", "visitors of a proxy before local mode", visitors_of_a_proxy),
    Attack("15", "any web page, with '*' in local mode", a_star_in_local_mode),
    Attack("3", "a server for the network without authentication", open_to_the_network),
    Attack("17", "tokens in addresses", tokens_in_addresses),
    Attack("17", "a ticket whose request was refused", refused_tickets),
    Attack("18", "pages of another site load answers", cross_site_pages),
    Attack("18", "the same without authentication, on purpose", cross_site_pages, env=_OPEN),
]
