"""Lean Socket.IO clients over raw WebSockets: `python -m tests.bench.fanout_clients PORT COUNT LAST MODE`.

Connects COUNT clients, prints `ready`, and when every client has the token numbered LAST prints one line of JSON. Each
client looks at the number of every token it gets and counts the holes.
"""

import asyncio
import base64
import json
import os
import re
import sys
from typing import cast

import uvloop

NUMBER = re.compile(rb'"sequence_number":(\d+)')
EXECUTION = "bench"


def masked(text: bytes) -> bytes:
    """A text frame as a client sends it; the mask is zero, so the text stays as it is."""
    assert len(text) < 126
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text


class Client(asyncio.Protocol):
    """One client: handshake, subscription, pongs, and the numbers of its tokens."""

    def __init__(self, mode: str, last: int) -> None:
        loop = asyncio.get_running_loop()
        self.subscribed: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.seen = 0
        self.count = 0
        self.holes = 0
        self._last = last
        self._mode = mode
        self._buffer = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            (
                "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
                f"Upgrade: websocket\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ).encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.subscribed, self.done):
            if not future.done():
                future.set_exception(ConnectionError(f"closed after {self.count} tokens: {exc!r}"))

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if not self._upgraded:
            head, separator, data = data.partition(b"\r\n\r\n")
            if not separator:
                self._buffer = head
                return
            assert b" 101 " in head, head
            self._upgraded = True
        self._buffer = self._frames(data)

    def _frames(self, data: bytes) -> bytes:
        """Takes all complete frames; returns the rest."""
        at, end = 0, len(data)
        while at + 2 <= end:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if start + size > end:
                break
            self._message(data, start, start + size)
            at = start + size
        return data[at:]

    def _message(self, data: bytes, start: int, end: int) -> None:
        if data.startswith((b'42["token"', b'42["updates"'), start):
            self._tokens(data, start, end)
        elif data.startswith(b"0{", start):
            self._transport.write(masked(b"40"))
        elif data.startswith(b"40", start):
            wanted = {"execution_id": EXECUTION, "events": ["token"], "batch": self._mode == "batch"}
            self._transport.write(masked(b'420["subscribe_execution",' + json.dumps(wanted).encode() + b"]"))
        elif data.startswith(b"430", start):
            self.subscribed.set_result(None)
        elif data[start:end] == b"2":
            self._transport.write(masked(b"3"))

    def _tokens(self, data: bytes, start: int, end: int) -> None:
        for found in NUMBER.finditer(data, start, end):
            number = int(found[1])
            if number != self.seen + 1 and self.seen:
                self.holes += 1
            self.seen = number
            self.count += 1
        if self.seen >= self._last and not self.done.done():
            self.done.set_result(None)


async def run(port: int, count: int, last: int, mode: str) -> None:
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    for _ in range(count):
        _, client = await loop.create_connection(lambda: Client(mode, last), "127.0.0.1", port)
        clients.append(client)
    await asyncio.gather(*(client.subscribed for client in clients))
    print("ready", flush=True)
    await asyncio.gather(*(client.done for client in clients))
    report = {
        "tokens": sum(client.count for client in clients),
        "holes": sum(client.holes for client in clients),
        "fewest": min(client.count for client in clients),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
