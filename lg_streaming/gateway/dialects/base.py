"""What an event stream needs to know of what it is written in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.log.base import ExecutionState

__all__ = ["EventStreamEncoder"]


class EventStreamEncoder(Protocol):
    """How one stream says things. It may remember what it has said, so each stream has one of its own."""

    @property
    def frame_encoder(self) -> FrameEncoder:
        """The encoder of updates; it gets each update once, in order."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other readers at the same place need the same bytes."""
        ...

    @property
    def keep_alive(self) -> bytes:
        """Sent while there is nothing else to send."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether the stream has to end, although the run goes on."""
        ...

    def before_stream(self, retry_ms: int, status: Mapping[str, object]) -> bytes:
        """The first words; `status` is that of the connection and the subscription."""
        ...

    def encode_event(self, event: str, payload: object) -> bytes:
        """Something beside the updates; empty where the dialect keeps it to itself."""
        ...

    def caught_up(self) -> bytes:
        """Everything there is has been written; what there is to say to a reader who waits now."""
        ...

    def on_end(self, position: Position | None, *, run_is_over: bool, state: ExecutionState | None = None) -> bytes:
        """The last words of a stream that has got everything, or was closed.

        Args:
            position: Where the reader stands.
            run_is_over: Whether it has got everything.
            state: That of the execution, for a dialect that is not shared.
        """
        ...

    def on_error(self, error: StreamingError) -> bytes:
        """The last words of a stream that cannot go on."""
        ...

    def on_restart(self, event: str, retry_ms: int) -> bytes:
        """The last words of a stream whose reader is to come back."""
        ...
