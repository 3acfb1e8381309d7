"""WebSocket frames, made by hand: what no client library would send."""

import asyncio
import base64
import os
import socket
import struct
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

__all__ = ["BINARY", "CLOSE", "CONT", "PING", "PONG", "TEXT", "RawSocket", "deflated", "frame", "raw_socket"]

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_PATIENCE = 20.0


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, compressed: bool = False) -> bytes:
    """One masked frame; its mask is zero."""
    size = len(payload)
    first = opcode | (0x80 if fin else 0) | (0x40 if compressed else 0)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = bytes((first, 0x80 | 126)) + struct.pack(">H", size)
    else:
        head = bytes((first, 0x80 | 127)) + struct.pack(">Q", size)
    return head + bytes(4) + payload


def deflated(payload: bytes) -> bytes:
    """A payload as permessage-deflate carries it."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


class RawSocket:
    """An open WebSocket of which every byte is one's own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> bool:
        """Sends bytes; whether the peer still takes them."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError:
            return False
        return not self.writer.is_closing()

    async def flood(self, block: bytes, seconds: float) -> int:
        """Sends a block over and over until the peer has ended it; returns how many bytes it took."""
        sent = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while await self.send(block):
                    sent += len(block)
                    await asyncio.sleep(0)
        return sent

    async def receive(self) -> tuple[int, bytes]:
        """The next frame: its opcode and payload.

        Raises:
            IncompleteReadError: If the connection has ended.
        """
        async with asyncio.timeout(_PATIENCE):
            first, size = await self.reader.readexactly(2)
            if size > 125:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            return first & 0x0F, await self.reader.readexactly(size)

    async def until(self, part: bytes) -> bytes:
        """The payload of the next frame that holds this."""
        while part not in (payload := (await self.receive())[1]):
            pass
        return payload

    async def closed(self) -> tuple[int | None, str, list[bytes]]:
        """Reads to the end: the close frame's code and reason, None without one, and the payloads before it."""
        payloads: list[bytes] = []
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while (received := await self.receive())[0] != CLOSE:
                payloads.append(received[1])
            return int.from_bytes(received[1][:2], "big"), received[1][2:].decode(), payloads
        return None, "", payloads


@asynccontextmanager
async def raw_socket(
    host: str, port: int, path: str = "/ws", *, headers: str = "", buffer: int | None = None, source: str | None = None
) -> AsyncGenerator[RawSocket]:
    """Shakes hands, and leaves without a word.

    Args:
        host: Of the server.
        port: Of the server.
        path: Of the WebSocket.
        headers: Further lines, each with its line break.
        buffer: Bytes that the kernel keeps for a reader that does not read; its own choice when None.
        source: The address to come from.
    """
    sock = socket.socket()
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    if source is not None:
        sock.bind((source, 0))
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, port))
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n".encode()
        )
        async with asyncio.timeout(_PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(head.decode())
        yield RawSocket(reader, writer)
    finally:
        writer.transport.abort()
