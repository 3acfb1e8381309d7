"""Before a request is complete: endless, odd and slow requests, many connections, no descriptors."""

import asyncio
import base64
import os
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial

from tests.attacks.attack import PATIENCE, Attack, Result, Target, bystander, raw_get

__all__ = ["ATTACKS", "HANDSHAKES", "SLOW", "Held", "handshake", "hold", "pour", "send_once", "slow_writers"]

WAIT = 0.1
"""Seconds that others may wait while one attacks."""
HEAD = b"Host: localhost\r\n"
MIB = 1_048_576


# ---------------------------------------------------------------- too much
async def pour(target: Target, start: bytes, block: bytes, most: int, source: str | None = None) -> tuple[int, bytes]:
    """Send `start`, then `block` until the server ends it: returns the bytes sent, and what it answered."""
    local = (source, 0) if source else None
    reader, writer = await asyncio.open_connection(target.host, target.port, local_addr=local)
    sent = 0
    try:
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                writer.write(start)
                while sent < most and not reader.at_eof():
                    writer.write(block)
                    await writer.drain()
                    sent += len(block)
                    await asyncio.sleep(0)
            answer = b""
            with suppress(ConnectionError):
                answer = await reader.read()
        return sent, answer
    finally:
        writer.transport.abort()


async def send_once(target: Target, data: bytes, *, timeout: float = PATIENCE) -> bytes:
    """Send `data` and return all that comes until the connection ends."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        async with asyncio.timeout(timeout):
            writer.write(data)
            answer = b""
            with suppress(ConnectionError):
                while piece := await reader.read(65_536):
                    answer += piece
            return answer
    finally:
        writer.transport.abort()


CHUNKED = b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_MUCH: dict[str, tuple[bytes, bytes]] = {
    "a header field without end": (b"GET /health HTTP/1.1\r\n" + HEAD + b"X-A: ", b"a" * 65_536),
    "a field name without end": (b"GET /health HTTP/1.1\r\n" + HEAD, b"a" * 65_536),
    "header fields without end": (b"GET /health HTTP/1.1\r\n" + HEAD, b"X-A: aaaaaaaa\r\n" * 4_096),
    "an address without end": (b"GET /", b"a" * 65_536),
    "a query without end": (b"GET /health?", b"a=b&" * 16_384),
    "a method without end": (b"", b"G" * 65_536),
    "a chunk extension without end": (CHUNKED + b"1;a=", b"a" * 65_536),
    "a chunk size without end": (CHUNKED, b"0" * 65_536),
    "a trailer without end": (CHUNKED + b"1\r\na\r\n0\r\nX-A: ", b"a" * 65_536),
    "trailers without end": (CHUNKED + b"1\r\na\r\n0\r\n", b"X-A: aaaaaaaa\r\n" * 4_096),
    "blank lines without end": (b"", b"\r\n" * 32_768),
    "chunks of one byte": (CHUNKED, b"1;aaaaaaaaaaaaaaaaaaaa=bbbbbbbbbbbbbbbbbb\r\na\r\n" * 1_400),
    "requests without end": (b"", (b"GET /health HTTP/1.1\r\n" + HEAD + b"\r\n") * 1_600),
    "a body nobody wants": (
        b"POST /health HTTP/1.1\r\n" + HEAD + b"Content-Length: 1000000000\r\n\r\n",
        b"a" * 65_536,
    ),
}


async def _too_much(target: Target, name: str) -> Result:
    before = target.rss()
    async with bystander(target) as others:
        sent, answer = await pour(target, *TOO_MUCH[name], most=64 * MIB)
    grown = target.rss() - before
    seen = f"ended after {sent / MIB:.1f} MiB with {answer[9:12].decode() or 'no answer'}, +{grown:.0f} MiB, {others}"
    return Result(
        bound="64 KiB of header, 128 fields, 16 KiB of address, 8 KiB of trailers, 32 requests at once",
        seen=seen,
        held=sent < 64 * MIB and grown < 10 and others.worst < WAIT * 5,
    )


async def _repeated(target: Target, count: int) -> Result:
    data = b"GET /executions/x HTTP/1.1\r\n" + HEAD + b"x: yyyyyyyy\r\n" * count + b"\r\n"
    before = target.cpu()
    async with bystander(target) as others:
        answer = await send_once(target, data)
    seen = (
        f"{count:,} fields: {answer[9:12].decode() or 'closed'}, {target.cpu() - before:.2f} s of processor, {others}"
    )
    return Result(bound="128 fields", seen=seen, held=others.worst < WAIT * 5)


# ---------------------------------------------------------------- too slow
class Held:
    """Connections of an attacker, and how many the server has not ended."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.refused = 0

    def alive(self) -> int:
        return len([sock for sock in self.sockets if _is_open(sock)])

    async def gone(self, seconds: float) -> float:
        """Wait until none is left; returns the seconds it took, or infinity."""
        began = time.monotonic()
        while self.alive():
            if time.monotonic() - began > seconds:
                return float("inf")
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    def drip(self, data: bytes) -> None:
        for sock in self.sockets:
            with suppress(OSError):
                sock.send(data)


def _is_open(sock: socket.socket) -> bool:
    try:
        while True:
            if not sock.recv(65_536):
                return False
    except BlockingIOError:
        return True
    except OSError:
        return False


SLOW: dict[str, tuple[bytes, bytes]] = {
    "silent": (b"", b""),
    "header": (b"GET /health HTTP/1.1\r\n" + HEAD + b"X-A: ", b"a"),
    "request line": (b"G", b"E"),
    "body": (b"POST /tickets HTTP/1.1\r\n" + HEAD + b"Content-Length: 60000\r\n\r\n{", b"a"),
    "chunked body": (CHUNKED + b"1\r\n{\r\n", b"1\r\na\r\n"),
    "WebSocket handshake": (
        b"GET /ws HTTP/1.1\r\n" + HEAD + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ",
        b"a",
    ),
    "busy": (b"GET /wait?seconds=60 HTTP/1.1\r\n" + HEAD + b"\r\n", b""),
    "TLS hello": (b"\x16\x03\x01\x01\x00\x01", b"\x00"),
}


@asynccontextmanager
async def hold(target: Target, kind: str, count: int, addresses: int = 1) -> AsyncGenerator[Held]:
    """Hold `count` connections that send one byte a second, from so many loopback addresses."""
    start, drop = SLOW[kind]
    held = Held()
    for number in range(count):
        sock = socket.socket()
        which = number % addresses
        sock.bind((f"127.0.{10 + which // 250}.{1 + which % 250}" if addresses > 1 else "127.0.0.1", 0))
        sock.settimeout(5)
        try:
            sock.connect((target.host, target.port))
            sock.send(start)
        except OSError:
            held.refused += 1
        sock.setblocking(False)
        held.sockets.append(sock)
        if number % 50 == 0:
            await asyncio.sleep(0)

    async def dripping() -> None:
        while drop:
            await asyncio.sleep(1)
            held.drip(drop)

    task = asyncio.create_task(dripping())
    try:
        yield held
    finally:
        task.cancel()
        for sock in held.sockets:
            sock.close()


async def slow_writers(target: Target, kind: str, count: int, addresses: int) -> Result:
    """Hold slow connections; they have to be gone after a while, others served all the while."""
    before, descriptors = target.rss(), target.descriptors()
    async with bystander(target) as others, hold(target, kind, count, addresses) as held:
        await asyncio.sleep(1)
        alive = held.alive()
        gone = await held.gone(30)
        grown = target.rss() - before
    await asyncio.sleep(1)
    seen = f"{alive} of {count} open after 1 s, none after {gone + 1:.0f} s, +{grown:.0f} MiB, {others}"
    most = (116 + 8) * addresses
    return Result(
        bound="116 of an address, 10 s for a header, 200 B/s of a body",
        seen=seen,
        held=alive <= most and gone < 30 and target.descriptors() <= descriptors + 5 and others.worst < WAIT * 5,
    )


# ---------------------------------------------------------------- handshakes
def handshake(*extra: bytes, method: bytes = b"GET", path: bytes = b"/ws", version: bytes = b"1.1") -> bytes:
    """A WebSocket handshake with further header lines."""
    key = base64.b64encode(os.urandom(16))
    lines = [
        b"%s %s HTTP/%s" % (method, path, version),
        b"Host: localhost",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: " + key,
        b"Sec-WebSocket-Version: 13",
        *extra,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


HANDSHAKES: dict[str, bytes] = {
    "a cookie of 20 KB": handshake(b"Cookie: a=" + b"b" * 20_000),
    "a cookie of 60 KB": handshake(b"Cookie: a=" + b"b" * 60_000),
    "127 fields more": handshake(*(b"X-%d: a" % n for n in range(127))),
    "a body to come": handshake(b"Content-Length: 5"),
    "a chunked body to come": handshake(b"Transfer-Encoding: chunked"),
    "POST": handshake(method=b"POST"),
    "HTTP/1.0": handshake(version=b"1.0"),
    "an odd path": handshake(path=b"/ws?\xff\xfe"),
    "no version": handshake().replace(b"Sec-WebSocket-Version: 13\r\n", b""),
    "two keys": handshake(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
    "odd extensions": handshake(b"Sec-WebSocket-Extensions: ;;;=,"),
    "odd protocols": handshake(b"Sec-WebSocket-Protocol: ,\x80,"),
    "an unknown path": handshake(path=b"/nothing"),
    "a health route": handshake(path=b"/health"),
    "h2c": handshake().replace(b"Upgrade: websocket", b"Upgrade: h2c"),
    "h2c with a body": handshake(b"Content-Length: 5").replace(b"Upgrade: websocket", b"Upgrade: h2c"),
}


async def _handshakes(target: Target) -> Result:
    async def one(name: str) -> str | None:
        try:
            await send_once(target, HANDSHAKES[name], timeout=35)
        except TimeoutError:
            return name
        return None

    async with bystander(target) as others:
        found = await asyncio.gather(*(one(name) for name in HANDSHAKES))
    left = [name for name in found if name is not None]
    seen = f"{len(HANDSHAKES)} kinds, never ended: {', '.join(left) or 'none'}; {others}"
    return Result(bound="answered or closed within 30 s", seen=seen, held=not left)


# ---------------------------------------------------------------- no descriptors
async def _descriptors(target: Target) -> Result:
    lines = target.log_lines()
    async with bystander(target, source="127.0.0.251") as others, hold(target, "silent", 1_500, 200):
        await asyncio.sleep(2)
        status, _ = await raw_get(target, "/health", source="127.0.0.252", timeout=5)
        new, _ = await raw_get(target, "/executions/x", source="127.0.0.253", timeout=5)
        logged = target.log_lines() - lines
    began = time.monotonic()
    while (await raw_get(target, "/executions/x", source="127.0.0.254"))[0] == 503:
        await asyncio.sleep(0.05)
    after = time.monotonic() - began
    seen = f"/health {status}, a new caller {new}, served {after:.1f} s after, {logged} lines of log, {others}"
    return Result(
        bound="an eighth of the descriptors is kept back",
        seen=seen,
        held=status == 200 and new in {401, 503} and after < 1 and logged < 10,
    )


FEW_DESCRIPTORS = (("ATTACK_DESCRIPTORS", "512"),)
STANDARD_LOOP = ("ATTACK_LOOP", "asyncio")


ATTACKS: list[Attack] = [
    *(Attack("1", f"{n:,} header fields", partial(_repeated, count=n)) for n in (2_000, 200_000)),
    *(Attack("2", name, partial(_too_much, name=name)) for name in TOO_MUCH),
    *(
        Attack(
            "4",
            f"1,000 slow writers, {kind}, {n} address{'es' * (n > 1)}",
            partial(slow_writers, kind=kind, count=1_000, addresses=n),
        )
        for kind in SLOW
        if kind not in {"TLS hello", "busy"}
        for n in (1, 200)
    ),
    Attack("4", "WebSocket handshakes that cannot succeed", _handshakes),
    *(
        Attack(
            "4",
            f"1,000 slow writers, {kind}, {n} address{'es' * (n > 1)}, to a server with TLS",
            partial(slow_writers, kind=kind, count=1_000, addresses=n),
            secure=True,
        )
        for kind in ("silent", "TLS hello")
        for n in (1, 200)
    ),
    Attack("4", "out of descriptors", _descriptors, env=FEW_DESCRIPTORS),
    Attack("4", "out of descriptors, the standard event loop", _descriptors, env=(*FEW_DESCRIPTORS, STANDARD_LOOP)),
]
