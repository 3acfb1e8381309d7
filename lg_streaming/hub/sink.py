"""What a sink is: a place outside the hub that the updates of an execution are sent to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, runtime_checkable

from lg_streaming.backoff import Backoff
from lg_streaming.checks import Number, count, seconds
from lg_streaming.events import StreamUpdate
from lg_streaming.hub.page import Page

__all__ = ["AnySink", "ClosableSink", "CloseReason", "OnError", "PageSink", "PolicySink", "SendPolicy", "Sink"]

CloseReason = Literal[
    "completed",
    "failed",
    "cancelled",
    "abandoned",
    "detached",
    "replaced",
    "inactive",
    "error",
    "hub_closed",
]
"""Why a sink gets nothing more. The first four: its run ended, and how. ``inactive``: its `is_active` said no.
``error``: sending failed, and its attachment was not to go on then."""

OnError = Literal["log", "detach", "raise"]
"""What to do when sending failed for good: leave out what failed and go on; detach the sink; or detach it and raise
where its owner waits."""


@runtime_checkable
class Sink(Protocol):
    """Takes the updates of an execution. A sink may be any object with these members, and an `aclose` if it has one.

    It is called on one event loop, one call at a time, in the order of the log.
    """

    @property
    def id(self) -> str:
        """Names the sink among those of an execution."""
        ...

    async def send(self, updates: Sequence[StreamUpdate]) -> None:
        """Takes what came since the last call: one update or several, in order.

        What it raises makes the sending fail; `SinkError` can say how many of the updates were taken, and
        `SinkRejectedError` that to send them again is of no use.
        """
        ...

    async def closed(self, reason: CloseReason) -> None:
        """Told once that nothing more comes, before `aclose`."""
        ...

    def is_active(self) -> bool:
        """Whether it still wants updates. Asked before each call of `send`; one that says no is detached."""
        ...


@runtime_checkable
class PageSink(Protocol):
    """A sink that takes the log's own records, whose JSON is ready, in place of updates."""

    @property
    def id(self) -> str:
        """See `Sink.id`."""
        ...

    async def send_page(self, execution_id: str, page: Page) -> None:
        """Like `Sink.send`; a gap in the page lies before its records."""
        ...

    async def closed(self, reason: CloseReason) -> None:
        """See `Sink.closed`."""
        ...

    def is_active(self) -> bool:
        """See `Sink.is_active`."""
        ...


AnySink = Sink | PageSink


@runtime_checkable
class ClosableSink(Protocol):
    """A sink that holds something: a file, a connection, a thread."""

    async def aclose(self) -> None:
        """Frees what the sink holds. Harmless when repeated."""
        ...


_TIMEOUT: Final = Number(unit="seconds", above=True, none="for no limit", infinite=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPolicy:
    """How a sink is sent to.

    Raises:
        ValueError: A value cannot be used.
    """

    batch_size: int = 500
    """The most updates of one call."""
    interval: float = 0.002
    """Seconds from the end of one call to the next, unless a full batch waits. The first update is sent at once;
    what follows closely shares a call."""
    timeout: float | None = 10.0
    """Seconds one call may take; a longer one is cancelled and has failed. None, or ``math.inf``, for no limit."""
    attempts: int = 1
    """How often the same updates are sent before the sending has failed for good. More than 1 means at least once:
    a receiver has to leave out what it has already."""
    backoff: Backoff = field(default_factory=Backoff)
    """The pauses between the attempts."""

    def __post_init__(self) -> None:
        count("updates").check("batch_size", self.batch_size, ValueError)
        seconds(zero="sends at once").check("interval", self.interval, ValueError)
        _TIMEOUT.check("timeout", self.timeout, ValueError)
        count("attempts").check("attempts", self.attempts, ValueError)

    @property
    def limit(self) -> float:
        """`timeout`, as a number."""
        return math.inf if self.timeout is None else self.timeout


@runtime_checkable
class PolicySink(Protocol):
    """A sink that knows best how it is sent to."""

    @property
    def policy(self) -> SendPolicy:
        """Used where `attach` is given none."""
        ...
