"""Below the messages of a WebSocket: pings, pongs, fragments, packets of engine.io, and unexpected bodies."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from tests.attacks.attack import PATIENCE, Attack, Result, Target, bystander
from tests.support.frames import BINARY, CONT, PING, PONG, TEXT, RawSocket, deflated, frame, raw_socket

__all__ = ["ATTACKS"]

WAIT = 0.1
"""Seconds that others may wait while one attacks."""
MEMORY = 30.0
"""MiB that an attack may cost."""
SECONDS = 5.0
PATHS = {"/ws": "/ws", "Socket.IO": "/socket.io/?EIO=4&transport=websocket"}
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
FLOODS = {
    "pings whose pongs nobody reads": frame(PING, b"p" * 125) * 500,
    "empty pings": frame(PING) * 4_000,
    "pongs that nobody asked for": frame(PONG, b"p" * 60) * 1_000,
    "empty fragments": frame(TEXT, fin=False) + frame(CONT, fin=False) * 4_000,
    "fragments of one byte, with pings between": frame(BINARY, fin=False)
    + (frame(CONT, b"x", fin=False) + frame(PING)) * 2_000,
    "empty messages": frame(TEXT) * 4_000,
    "pongs of engine.io": frame(TEXT, b"3") * 4_000,
    "noops of engine.io": frame(TEXT, b"6") * 4_000,
    "binary messages": frame(BINARY, b"\x04") * 4_000,
}
BOMBS = frame(TEXT, deflated(b" " * 65_000), compressed=True) * 1_500


async def flood(block: bytes, path: str, target: Target, *, headers: str = "", connections: int = 10) -> Result:
    """Send `block` on several connections of as many addresses, over and over, and read nothing."""
    before, most, ended = target.rss(), 0.0, 0
    until = time.monotonic() + SECONDS

    async def attack(number: int) -> None:
        nonlocal ended
        while time.monotonic() < until:
            with suppress(OSError):
                async with raw_socket(
                    target.host, target.port, path, headers=headers, buffer=4_096, source=f"127.0.4.{number + 1}"
                ) as raw:
                    await raw.flood(block, until - time.monotonic())
                    ended += time.monotonic() < until

    async with bystander(target) as others:
        attacks = [asyncio.create_task(attack(number)) for number in range(connections)]
        while not all(each.done() for each in attacks):
            most = max(most, target.rss() - before)
            await asyncio.sleep(0.05)
        await asyncio.gather(*attacks)
    return Result(
        bound="100 frames and 1.25 MiB a second, 1 MiB unread: 4293, 4400",
        seen=f"{ended} connections were ended; {most:.0f} MiB; {others}",
        held=ended >= connections and most < MEMORY and others.median < WAIT,
    )


async def unfinished(beginning: bytes, path: str, target: Target) -> Result:
    """Begin a message on many connections, and complete none. `target` has a short deadline."""

    async def attack(number: int) -> int | None:
        async with raw_socket(target.host, target.port, path, source=f"127.0.5.{number + 1}") as raw:
            await raw.send(beginning)
            return await _code(raw)

    before = target.descriptors()
    async with bystander(target) as others:
        codes = await asyncio.gather(*(attack(number) for number in range(50)))
    held = await _until(lambda: target.descriptors() <= before + 5)
    closed = sum(code in {4401, 4080} for code in codes)
    return Result(
        bound="`limits.message_timeout`: 4401",
        seen=f"{closed} of 50 were closed by name; descriptors came back: {held}; {others}",
        held=held and closed == 50 and others.median < WAIT,
    )


async def body(method: str, path: str, target: Target) -> Result:
    """Send a body without end where a WebSocket is served."""
    before, sent = target.rss(), 0
    async with bystander(target) as others:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n\r\n".encode())
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(SECONDS):
                while not writer.is_closing():
                    writer.write(b"x" * 65_536)
                    await writer.drain()
                    sent += 65_536
        answer = b""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                answer = await reader.read(64)
        writer.transport.abort()
    grown = target.rss() - before
    return Result(
        bound="answered without reading, and closed",
        seen=f"{sent / 2**20:.0f} MiB were taken; {answer[9:12].decode()}; {grown:.0f} MiB; {others}",
        held=sent < 64 * 2**20 and grown < MEMORY and others.median < WAIT,
    )


async def _code(raw: RawSocket) -> int | None:
    return (await raw.closed())[0]


async def _until(holds: Callable[[], bool]) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while not holds():
                await asyncio.sleep(0.05)
            return True
    return False


def _floods() -> list[tuple[str, Callable[[Target], Awaitable[Result]]]]:
    return [
        (f"{what}, {name}", partial(flood, block, path))
        for what, block in FLOODS.items()
        for name, path in PATHS.items()
    ]


ATTACKS: list[Attack] = [
    *(Attack(row="5", name=name, run=run) for name, run in _floods()),
    *(
        Attack(
            row="5",
            name=f"messages that inflate, {name}",
            run=partial(flood, BOMBS, path, headers=DEFLATE),
            options=("--ws-compression",),
        )
        for name, path in PATHS.items()
    ),
    *(
        Attack(
            row="5",
            name=f"{what} and no more, {name}",
            run=partial(unfinished, beginning, path),
            env=(("LG_STREAMING_LIMITS__MESSAGE_TIMEOUT", "1"),),
        )
        for what, beginning in {
            "a fragment": frame(TEXT, b"{", fin=False),
            "half a frame": frame(TEXT, b"{" * 90)[:40],
        }.items()
        for name, path in PATHS.items()
    ),
    Attack(
        row="5",
        name="a POST of polling without end",
        run=partial(body, "POST", "/socket.io/?EIO=4&transport=polling&sid=x"),
    ),
    Attack(row="5", name="a PUT to /ws without end", run=partial(body, "PUT", "/ws")),
]
