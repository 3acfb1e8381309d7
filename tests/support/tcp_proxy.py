"""A TCP proxy that breaks what passes through it: resets, silence, slowness."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_CHUNK = 4_096
_BUFFER = 262_144
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(slots=True, eq=False)
class _Line:
    """One connection through the proxy: the client's half and the server's."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    given: int = 0
    """Bytes the client got."""

    @property
    def halves(self) -> tuple[asyncio.StreamWriter, asyncio.StreamWriter]:
        return self.client, self.server

    def reset(self) -> None:
        for half in self.halves:
            sock: socket.socket | None = half.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            half.transport.abort()

    def finish(self) -> None:
        for half in self.halves:
            half.close()


@dataclass(slots=True)
class TcpProxy:
    """A running proxy and its faults, which hold for all connections, also later ones.

    Attributes:
        host: Its host.
        port: Its port.
        delay: Seconds each piece takes longer on its way to the client.
        bytes_per_second: Limit of the rate to a client; None: no limit.
        cut_after: Bytes after which a client's connection is reset; None: never.
        target: The port that new connections reach.
        new_filter: Makes the filter of a new connection: it gets each piece for the client, and returns what to send.
    """

    host: str
    port: int
    target: int
    delay: float = 0.0
    bytes_per_second: float | None = None
    cut_after: int | None = None
    new_filter: Callable[[], Callable[[bytes], bytes]] | None = None
    connections: int = 0
    """The number of connections so far."""
    _lines: set[_Line] = field(default_factory=set[_Line])
    _flows: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        """Resets all connections, both halves of each (RST)."""
        for line in list(self._lines):
            line.reset()

    def finish(self) -> None:
        """Ends all connections (FIN)."""
        for line in list(self._lines):
            line.finish()

    def complete(self) -> None:
        """Ends all connections after the last chunk of a chunked response; nothing may be on its way."""
        for line in list(self._lines):
            line.client.write(b"0\r\n\r\n")
            line.client.close()

    def freeze(self) -> None:
        """From now on nothing passes, and nothing is closed: half-open connections."""
        self._flows.clear()

    def thaw(self) -> None:
        """Everything passes again."""
        self._flows.set()

    async def serve(self, client_in: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            server_in, server = await self._connect()
        except OSError:
            client.transport.abort()
            return
        # Bytes that wait in the proxy must not hide a peer that does not read.
        for half in (client, server):
            half.transport.set_write_buffer_limits(high=_CHUNK)
        line = _Line(client, server)
        self._lines.add(line)
        self.connections += 1
        line.tasks += [
            asyncio.create_task(self._to_server(client_in, line)),
            asyncio.create_task(self._to_client(server_in, line)),
        ]
        try:
            await asyncio.wait(line.tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._lines.discard(line)
            line.finish()
            for task in line.tasks:
                task.cancel()
            await asyncio.gather(*line.tasks, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the server, with a fixed buffer: one that grows by itself takes up to 30 MB unread."""
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            await asyncio.get_running_loop().sock_connect(sock, (self.host, self.target))
        except BaseException:
            sock.close()
            raise
        return await asyncio.open_connection(sock=sock)

    async def _to_server(self, source: asyncio.StreamReader, line: _Line) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                await self._flows.wait()
                line.server.write(data)
                await line.server.drain()

    async def _to_client(self, source: asyncio.StreamReader, line: _Line) -> None:
        filtered = self.new_filter() if self.new_filter is not None else None
        with contextlib.suppress(OSError):
            while True:
                await self._flows.wait()
                data = await source.read(_CHUNK)
                await self._flows.wait()
                if not data:
                    return
                if filtered is not None:
                    data = filtered(data)
                if self.delay or self.bytes_per_second:
                    await asyncio.sleep(self.delay + len(data) / (self.bytes_per_second or float("inf")))
                if self.cut_after is not None and line.given + len(data) >= self.cut_after:
                    line.client.write(data[: self.cut_after - line.given])
                    line.reset()
                    return
                line.given += len(data)
                line.client.write(data)
                await line.client.drain()


@asynccontextmanager
async def tcp_proxy(port: int, host: str = "127.0.0.1") -> AsyncGenerator[TcpProxy]:
    """A proxy before what listens on `port`; nothing of it is left at the end."""
    proxy = TcpProxy(host, 0, port)
    proxy.thaw()
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await proxy.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            serving.discard(task)

    server = await asyncio.start_server(serve, host, 0, limit=_CHUNK)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.reset()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()
