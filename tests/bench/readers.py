"""Lean readers in another process: `python -m tests.bench.readers WANTED`, the fields of `Wanted` as JSON.

Prints `ready` when every reader has subscribed, and one line of JSON at the end. The end is when every reader has the
update numbered `last` or, without one, when stdin has ended. A reader does not parse its stream: it counts
sequence numbers in the bytes, so that the server is the busy part.
"""

import asyncio
import base64
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import uvloop

EXECUTION: Final = "bench"
MARK: Final = b'"sequence_number":'
NUMBER: Final = re.compile(rb'"sequence_number":(\d+)\D')
SENT: Final = re.compile(rb'"sent":(\d+)')
PING: Final = b"\x81\x012"
SMALL_BUFFER: Final = 4_096
PATIENCE: Final = 80.0
"""Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Orders of the readers.

    Attributes:
        port: Of the server on 127.0.0.1.
        count: Readers.
        last: The number of the update that each of them waits for; 0: they stay until stdin ends.
        transport: Their transport.
        batch: Whether they ask for batches.
        events: The events of their subscription; None: all.
        after: The position they come with; None: from the start.
        at_once: All connect at the same moment instead of one after the other.
        delays: Each update has in its data the time at which it was `sent`, in nanoseconds of the monotonic clock.
        stalled: So many more readers, from the start, that read nothing once they have subscribed.
        ports: Further servers, to which the readers connect in turn.
        executions: Executions that the readers read in turn, `bench-0` and so on; 0: all read `bench`.
    """

    port: int
    count: int
    last: int = 0
    transport: Literal["socketio", "sse"] = "socketio"
    batch: bool = False
    events: tuple[str, ...] | None = None
    after: str | None = None
    at_once: bool = False
    delays: bool = False
    stalled: int = 0
    ports: tuple[int, ...] = ()
    executions: int = 0

    def port_of(self, number: int) -> int:
        """Port of the server of a reader."""
        ports = (self.port, *self.ports)
        return ports[number % len(ports)]

    def execution_of(self, number: int) -> str:
        """Execution of a reader."""
        return name_of(number % self.executions) if self.executions else EXECUTION


def name_of(number: int) -> str:
    """The execution of a number."""
    return f"{EXECUTION}-{number}"


def masked(text: bytes) -> bytes:
    """A text frame as a client sends it; the mask is zero, so the text stays as it is."""
    size = bytes((0x80 | len(text),)) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
    return b"\x81" + size + bytes(4) + text


def first_frame(data: bytes) -> tuple[bytes, bytes] | None:
    """The text of the first WebSocket frame of a server, and what follows it; None: it is not whole yet."""
    if len(data) < 4:
        return None
    size, start = (data[1], 2) if data[1] < 126 else (int.from_bytes(data[2:4], "big"), 4)
    return (data[start : start + size], data[start + size :]) if len(data) >= start + size else None


@dataclass(slots=True, kw_only=True)
class Tally:
    """Observations of one reader."""

    delays: list[float] | None
    """Seconds from sent to seen, of each update; None: not asked for."""
    seen: int = 0
    count: int = 0
    holes: int = 0

    def take(self, data: bytes) -> bytes:
        """Counts the sequence numbers in `data`; returns what comes after the last whole one."""
        at = data.rfind(MARK)
        last = NUMBER.match(data, at) if at >= 0 else None
        if last is None and at > 0:
            at = data.rfind(MARK, 0, at)
            last = NUMBER.match(data, at) if at >= 0 else None
        if last is None:
            return data
        first = NUMBER.search(data)
        assert first is not None
        begin, end, found = int(first[1]), int(last[1]), data.count(MARK, 0, last.end())
        # Between two ends lie as many numbers as there are, if none is missing.
        if end - begin + 1 != found or begin != (self.seen + 1 if self.seen else begin):
            self.holes += 1
        self.seen = end
        self.count += found
        if self.delays is not None:
            now = time.monotonic_ns()
            self.delays.extend((now - int(sent[1])) / 1e9 for sent in SENT.finditer(data, 0, last.end()))
        return data[last.end() :]


class Reader(asyncio.Protocol):
    """One connection: sends its request, then counts what comes after the answer."""

    def __init__(self, wanted: Wanted, number: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.subscribed: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.tally = Tally(delays=[] if wanted.delays else None)
        self._wanted = wanted
        self._execution_id = wanted.execution_of(number)
        self._buffer = b""
        self._take: Callable[[bytes], bytes] = self._answer

    @property
    def host(self) -> str:
        """The server's name: it accepts callers without a token only under its own name and port."""
        return "{}:{}".format(*self._transport.get_extra_info("peername")[:2])

    def request(self) -> str:
        raise NotImplementedError

    def _answer(self, data: bytes) -> bytes:
        """Takes what comes before the stream."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self.request().encode())

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.subscribed, self.done):
            if not future.done():
                future.set_exception(ConnectionError(f"closed after {self.tally.count} updates: {exc!r}"))
                future.exception()  # who waits gets it all the same; without anyone it is no news

    def data_received(self, data: bytes) -> None:
        self._buffer = self._take(self._buffer + data if self._buffer else data)

    def close(self) -> None:
        self._transport.abort()

    def _streams(self) -> None:
        self._take = self._stream
        self.subscribed.set_result(None)

    def _stream(self, data: bytes) -> bytes:
        rest = self.tally.take(data)
        if self._wanted.last and self.tally.seen >= self._wanted.last and not self.done.done():
            self.done.set_result(None)
        return rest

    def stall(self) -> None:
        self._transport.pause_reading()


class EventReader(Reader):
    """Reads Server-Sent Events."""

    def request(self) -> str:
        wanted = self._wanted
        query = {
            "events": ",".join(wanted.events or ()),
            "after": wanted.after,
            "batch": "true" if wanted.batch else "",
        }
        asked = "&".join(f"{name}={value}" for name, value in query.items() if value)
        return f"GET /executions/{self._execution_id}/stream?{asked} HTTP/1.1\r\nHost: {self.host}\r\n\r\n"

    def _answer(self, data: bytes) -> bytes:
        head, separator, data = data.partition(b"\r\n\r\n")
        if not separator:
            return head
        assert b" 200 " in head, head
        self._streams()
        return self._stream(data)


class SocketReader(Reader):
    """Reads Socket.IO from a raw WebSocket."""

    _upgraded = False

    def request(self) -> str:
        key = base64.b64encode(os.urandom(16)).decode()
        return (
            f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {self.host}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )

    def _answer(self, data: bytes) -> bytes:
        if not self._upgraded:
            head, separator, data = data.partition(b"\r\n\r\n")
            if not separator:
                return head
            assert b" 101 " in head, head
            self._upgraded = True
        while (frame := first_frame(data)) is not None:
            message, data = frame
            if self._message(message):
                self._streams()
                return self._stream(data)
        return data

    def _message(self, message: bytes) -> bool:
        """Return whether it confirms the reader's subscription."""
        if message.startswith(b"0{"):
            self._transport.write(masked(b"40"))
        elif message.startswith(b"40"):
            wanted: dict[str, Any] = {"execution_id": self._execution_id, "batch": self._wanted.batch}
            if self._wanted.events is not None:
                wanted["events"] = self._wanted.events
            if self._wanted.after is not None:
                wanted["after"] = self._wanted.after
            self._transport.write(masked(b'420["subscribe_execution",' + json.dumps(wanted).encode() + b"]"))
        if message.startswith(b"430"):
            assert b'"error"' not in message, message
            return True
        return False

    def _stream(self, data: bytes) -> bytes:
        if PING in data:
            self._transport.write(masked(b"3"))
        return super()._stream(data)


async def connect(wanted: Wanted, number: int = 0, sock: socket.socket | None = None) -> Reader:
    """A reader that has subscribed, by its number."""
    kind = SocketReader if wanted.transport == "socketio" else EventReader
    loop = asyncio.get_running_loop()
    if sock is None:
        _, reader = await loop.create_connection(lambda: kind(wanted, number), "127.0.0.1", wanted.port_of(number))
    else:
        await loop.sock_connect(sock, ("127.0.0.1", wanted.port))
        _, reader = await loop.create_connection(lambda: kind(wanted), sock=sock)
    await reader.subscribed
    return reader


async def connect_stalled(wanted: Wanted) -> Reader:
    """A reader of the whole execution that stops reading at once."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    sock.setblocking(False)
    reader = await connect(Wanted(port=wanted.port, count=1, transport=wanted.transport), sock=sock)
    reader.stall()
    return reader


async def connect_all(wanted: Wanted) -> list[Reader]:
    if wanted.at_once:
        return list(await asyncio.gather(*(connect(wanted, number) for number in range(wanted.count))))
    return [await connect(wanted, number) for number in range(wanted.count)]


def percentiles(values: list[float]) -> dict[str, float]:
    """Milliseconds."""
    values.sort()
    return {
        name: round(values[min(len(values) - 1, int(len(values) * part))] * 1e3, 2) if values else 0.0
        for name, part in (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0))
    }


async def until_stdin_ends() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def run(wanted: Wanted) -> dict[str, Any]:
    began = time.perf_counter()
    stalled = [await connect_stalled(wanted) for _ in range(wanted.stalled)]
    readers = await connect_all(wanted)
    connected, login = time.perf_counter(), time.process_time()
    print("ready", flush=True)
    if wanted.last:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(reader.done for reader in readers))
    ended, busy = time.perf_counter(), time.process_time() - login
    if not wanted.last:
        await until_stdin_ends()
    tallies = [reader.tally for reader in readers]
    for reader in (*readers, *stalled):
        reader.close()
    return {
        "updates": sum(tally.count for tally in tallies),
        "fewest": min(tally.count for tally in tallies),
        "holes": sum(tally.holes for tally in tallies),
        "seconds": ended - began,
        "connect_seconds": connected - began,
        "busy_after_ready": busy,
        **percentiles([delay for tally in tallies for delay in tally.delays or ()]),
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(Wanted(**json.loads(sys.argv[1]))))), flush=True)
