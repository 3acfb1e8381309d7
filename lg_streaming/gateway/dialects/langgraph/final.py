"""The values at the end of a run, for callers that wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from lg_streaming.events import FINAL_TYPES
from lg_streaming.gateway.delivery.frames import Frames
from lg_streaming.gateway.dialects.langgraph import shapes
from lg_streaming.gateway.dialects.langgraph.reader import LoadValues, RunReader, data_of, with_interrupts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.gateway.dialects.langgraph.view import RunView
    from lg_streaming.hub import Page
    from lg_streaming.log.base import ExecutionState, StoredUpdate

__all__ = ["FinalValues"]


class FinalValues:
    """Encoder of one JSON value: the state at the end of a run. See `EventStreamEncoder`.

    The state has the key ``__interrupt__`` if the run waits for people. After a failure the value is ``{"__error__":
    {"error", "message"}}``. Spaces before it keep the connection open.

    Args:
        view: The run.
        load: Loads states that are too large for the log.
    """

    shared: bool = False
    cuts: bool = True
    keep_alive: bytes = b" "

    def __init__(self, view: RunView, load: LoadValues | None) -> None:
        self._reader = RunReader(view, load)
        self._answer: bytes | None = None

    @property
    def frame_encoder(self) -> FrameEncoder:
        """See `EventStreamEncoder.frame_encoder`."""
        return self

    @property
    def is_complete(self) -> bool:
        """See `EventStreamEncoder.is_complete`."""
        return self._reader.is_complete

    async def prepare(self, page: Page) -> None:
        """See `PreparingEncoder.prepare`."""
        await self._reader.prepare(page)

    def before_stream(self, retry_ms: int, status: Mapping[str, object]) -> bytes:  # noqa: ARG002 (one value, no frames)
        """See `EventStreamEncoder.before_stream`."""
        return b""

    def encode_event(self, event: str, payload: object) -> bytes:  # noqa: ARG002 (one value, no frames)
        """See `EventStreamEncoder.encode_event`."""
        if event == "gap":
            self._reader.begun = True
            values = self._reader.take_gap()
            self._reader.values = None if values is None else orjson.dumps(values)
        return b""

    def caught_up(self) -> bytes:
        """See `EventStreamEncoder.caught_up`."""
        return b""

    def on_end(
        self,
        position: Position | None,  # noqa: ARG002 (the value has no place)
        *,
        run_is_over: bool,  # noqa: ARG002 (the reader has found the end)
        state: ExecutionState | None = None,  # noqa: ARG002 (see above)
    ) -> bytes:
        """See `EventStreamEncoder.on_end`."""
        return self._answer or self._reader.values or b"null"

    def on_error(self, error: StreamingError) -> bytes:  # noqa: ARG002 (the connection breaks)
        """See `EventStreamEncoder.on_error`."""
        return b""

    def on_restart(self, event: str, retry_ms: int) -> bytes:  # noqa: ARG002 (the connection breaks)
        """See `EventStreamEncoder.on_restart`."""
        return b""

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:  # noqa: ARG002 (others need it)
        """See `FrameEncoder.encode`."""
        reader = self._reader
        for record in records:
            if not reader.accepts(record):
                continue
            if record.type == "state" and not record.scope.namespace:
                values = reader.values_of(record, data_of(record))
                reader.values = reader.values if values is None else orjson.dumps(values)
            elif record.type in FINAL_TYPES or record.type == "workflow_interrupted":
                data = data_of(record)
                if reader.ends(record, data):
                    self._answer = self._final(record.type, data)
        return Frames(b"", count=0)

    def _final(self, type: str, data: Any) -> bytes | None:
        if type == "workflow_interrupted" and (interrupts := shapes.interrupts_of(data)):
            return with_interrupts(self._reader.values, interrupts)
        error = shapes.end_error(type, data)
        return None if error is None else orjson.dumps({"__error__": error})
