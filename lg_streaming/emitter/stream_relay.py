"""A model's answer that is read through an emitter, and streamed on the way."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Generator, Iterable
from typing import TYPE_CHECKING, TypeVar

from lg_streaming.chunks import get_message_id, parse_chunk
from lg_streaming.errors import StreamingError

if TYPE_CHECKING:
    from lg_streaming.emitter.base import BaseEmitter
    from lg_streaming.publisher import Scope

__all__ = ["StreamRelay"]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")


class StreamRelay:
    """Relay of one answer: publishes its chunks, except of messages with ids in `captured`."""

    def __init__(self, emitter: BaseEmitter, scope: Scope, captured: Collection[str]) -> None:
        self._emitter = emitter
        self._captured = captured
        self._scope = scope
        self._indexes = {"token": itertools.count(), "thinking": itertools.count()}

    async def asynchronous(self, stream: AsyncIterable[T]) -> AsyncGenerator[T]:
        """Yield the chunks of `stream`, and publish them."""
        try:
            async for chunk in stream:
                self._chunk(chunk)
                yield chunk
        finally:
            self._end()

    def synchronous(self, stream: Iterable[T]) -> Generator[T]:
        """Yield the chunks of `stream`, and publish them."""
        try:
            for chunk in stream:
                self._chunk(chunk)
                yield chunk
        finally:
            self._end()

    def _chunk(self, chunk: object) -> None:
        if not self._emitter.active:
            return
        try:
            message_id = get_message_id(chunk)
            if message_id is not None and message_id in self._captured:
                return
            if message_id is not None and message_id != self._scope.message_id:
                self._scope = self._scope.derive(message_id=message_id)
            for kind, data in parse_chunk(chunk):
                if kind != "tool_args":
                    data |= {"index": next(self._indexes[kind]), "role": "ai"}
                self._emitter.publish_text(kind, data, self._scope)
        except StreamingError:
            raise
        except Exception:
            logger.exception("a chunk of type %s could not be read", type(chunk).__name__)

    def _end(self) -> None:
        self._emitter.flush()
