"""A thread's events as Server-Sent Events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.gateway.dialects.langgraph.event_states import StateLoader
    from lg_streaming.gateway.dialects.langgraph.tape import Tape
    from lg_streaming.hub import Page
    from lg_streaming.log.base import ExecutionState

__all__ = ["EventTape", "sse_frame"]


def sse_frame(method: bytes, event_id: bytes, json: bytes) -> bytes:
    """Frame an event for Server-Sent Events."""
    return b"event: %b\ndata: %b\nid: %b\n\n" % (method, json, event_id)


class EventTape:
    """Encoder of one stream, see `EventStreamEncoder`. The stream never ends: its reader comes back after a cut.

    Args:
        tape: The tape.
        states: Reader of states that updates do not have.
    """

    keep_alive: bytes = b": heartbeat\n\n"
    shared: bool = False
    cuts: bool = True
    is_complete: bool = False

    def __init__(self, tape: Tape, states: StateLoader) -> None:
        self._tape = tape
        self._states = states
        self._after_gap = b""

    @property
    def frame_encoder(self) -> FrameEncoder:
        """See `EventStreamEncoder.frame_encoder`."""
        return self._tape

    async def prepare(self, page: Page) -> None:
        """See `PreparingEncoder.prepare`."""
        self._after_gap = await self._states.prepare(page, self._tape)

    def before_stream(self, retry_ms: int, status: Mapping[str, object]) -> bytes:  # noqa: ARG002 (clients read neither)
        """See `EventStreamEncoder.before_stream`."""
        return b": connected\n\n"

    def encode_event(self, event: str, payload: object) -> bytes:  # noqa: ARG002 (clients read none but the tape's)
        """See `EventStreamEncoder.encode_event`."""
        return self._after_gap if event == "gap" else b""

    def caught_up(self) -> bytes:
        """See `EventStreamEncoder.caught_up`."""
        return b""

    def on_end(self, position: Position | None, *, run_is_over: bool, state: ExecutionState | None = None) -> bytes:  # noqa: ARG002 (a cut ends the stream)
        """See `EventStreamEncoder.on_end`."""
        return b""

    def on_error(self, error: StreamingError) -> bytes:  # noqa: ARG002 (a cut ends the stream)
        """See `EventStreamEncoder.on_error`."""
        return b""

    def on_restart(self, event: str, retry_ms: int) -> bytes:  # noqa: ARG002 (a cut ends the stream)
        """See `EventStreamEncoder.on_restart`."""
        return b""
