"""The buffer of a connection whose transport takes ready frames."""

import asyncio
from typing import Any

from lg_streaming.errors import SlowReaderError
from lg_streaming.gateway.delivery.frames import Frames
from lg_streaming.gateway.transports.send_buffer import BufferLimits, DirectSendBuffer

LIMITS = BufferLimits(backlog_bytes=100, backlog_frames=3, send_timeout=1.0)


class Line:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self.buffered = 0
        self.written = b""

    def write(self, frames: bytes) -> None:
        self.written += frames


def buffer_of(line: Any, errors: list[SlowReaderError]) -> DirectSendBuffer:
    return DirectSendBuffer(line, LIMITS, errors.append)


async def test_only_frames_in_a_row_that_wait_are_counted() -> None:
    line, errors = Line(), list[SlowReaderError]()
    buffer = buffer_of(line, errors)
    for _ in range(3):
        line.writable.clear()
        buffer.put(Frames(b"ab", 2))
        assert buffer.admit(1)
        line.writable.set()
        buffer.put(Frames(b"c"))
    assert line.written == b"abc" * 3
    line.writable.clear()
    buffer.put(Frames(b"ab", 2))
    assert buffer.admit(1)
    assert not buffer.admit(1)
    buffer.put(Frames(b"d"))
    assert line.written == b"abc" * 3 + b"ab"
    assert len(errors) == 1


async def test_the_bytes_that_wait_are_bounded() -> None:
    line, errors = Line(), list[SlowReaderError]()
    buffer = buffer_of(line, errors)
    line.writable.clear()
    line.buffered = 98
    buffer.put(Frames(b"ab"))
    assert line.written == b"ab"
    assert not errors
    line.buffered = 100
    buffer.put(Frames(b"c"))
    assert line.written == b"ab"
    assert len(errors) == 1


async def test_a_buffer_that_is_stopped_writes_nothing() -> None:
    line, errors = Line(), list[SlowReaderError]()
    buffer = buffer_of(line, errors)
    buffer.stop()
    buffer.put(Frames(b"a"))
    assert not buffer.admit(1)
    line.writable.clear()
    buffer.put(Frames(b"a"))
    assert await buffer.drain()
    assert line.written == b""
    assert not errors
