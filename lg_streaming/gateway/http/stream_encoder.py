"""Interface of event-stream formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription
    from lg_streaming.hub import Page
    from lg_streaming.log.base import ExecutionState

__all__ = ["EventStreamEncoder", "MakeEncoder", "PreparingEncoder"]


class EventStreamEncoder(Protocol):
    """Encoder of one stream. It may keep state about what was sent, so each stream has its own encoder."""

    @property
    def frame_encoder(self) -> FrameEncoder:
        """The encoder of updates; called with each update once, in order."""
        ...

    @property
    def shared(self) -> bool:
        """Return whether other readers at the same position need the same bytes."""
        ...

    @property
    def cuts(self) -> bool:
        """Return whether a stream that ends before its run breaks the connection: its readers take an end for success.

        It holds for restarts, the longest duration, and failures for which `on_error` returns nothing.
        """
        ...

    @property
    def keep_alive(self) -> bytes:
        """The heartbeat, sent while the stream is idle."""
        ...

    @property
    def is_complete(self) -> bool:
        """Return whether the stream has to end although the run continues."""
        ...

    def before_stream(self, retry_ms: int, status: Mapping[str, object]) -> bytes:
        """Encode the start of a stream; `status` describes the connection and the subscription."""
        ...

    def encode_event(self, event: str, payload: object) -> bytes:
        """Encode an event that is no update; empty if the format has no such event."""
        ...

    def caught_up(self) -> bytes:
        """Encode what the format sends to a reader that has caught up."""
        ...

    def on_end(self, position: Position | None, *, run_is_over: bool, state: ExecutionState | None = None) -> bytes:
        """Encode the end of a stream that is complete, or was closed.

        Args:
            position: The reader's position.
            run_is_over: Whether the reader received all updates of the run.
            state: The state of the execution, for a format that is not shared.
        """
        ...

    def on_error(self, error: StreamingError) -> bytes:
        """Encode the end of a stream that fails."""
        ...

    def on_restart(self, event: str, retry_ms: int) -> bytes:
        """Encode the end of a stream whose reader has to reconnect."""
        ...


@runtime_checkable
class PreparingEncoder(Protocol):
    """Encoder that needs more than the updates, such as states that are too large for the log."""

    async def prepare(self, page: Page) -> None:
        """Load what the updates of a page need. Called before each page is encoded."""
        ...


MakeEncoder = Callable[["Session", "ActiveSubscription"], EventStreamEncoder]
"""Function that makes the encoder of one stream."""
