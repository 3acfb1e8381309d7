"""Protocols of sinks, which receive the updates of an execution, and the policy of sending to one."""

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
"""The reason for the end of a sink. The first four: the outcome of its run. ``inactive``: its `is_active` returned
False. ``error``: sending failed, and ``on_error`` was not ``"log"``."""

OnError = Literal["log", "detach", "raise"]
"""The reaction to a final failure of sending: skip the updates; detach the sink; or detach it and raise `SinkError` in
`Attachment.wait` and `SinkManager.flush`."""


class BaseSink(Protocol):
    """The members that all sinks have. They are called on one event loop, one call at a time."""

    @property
    def id(self) -> str:
        """The id of the sink, unique among the sinks of an execution."""
        ...

    async def closed(self, reason: CloseReason) -> None:
        """Receive the end, once, before `aclose`."""
        ...

    def is_active(self) -> bool:
        """Return whether the sink accepts updates. Called before each `send`; an inactive sink is detached."""
        ...


@runtime_checkable
class Sink(BaseSink, Protocol):
    """A receiver of the updates of an execution: any object with these members, and optionally an `aclose`.

    Its methods are called on one event loop, one call at a time, in the order of the log.
    """

    async def send(self, updates: Sequence[StreamUpdate]) -> None:
        """Receive the updates since the last call: one or several, in order.

        An exception makes the sending fail. A `SinkError` may contain the number of updates that were taken, and a
        `SinkRejectedError` prevents further attempts.
        """
        ...


@runtime_checkable
class PageSink(BaseSink, Protocol):
    """A sink that receives stored updates with their JSON, in place of decoded ones."""

    async def send_page(self, execution_id: str, page: Page) -> None:
        """Receive a page, like `Sink.send`. A gap of the page comes before its records."""
        ...


AnySink = Sink | PageSink


@runtime_checkable
class ClosableSink(Protocol):
    """A sink with a resource: a file, a connection, a thread."""

    async def aclose(self) -> None:
        """Free the resources of the sink. Harmless when repeated."""
        ...


_TIMEOUT: Final = Number(unit="seconds", above=True, none="for no limit", infinite=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPolicy:
    """The policy of sending to a sink.

    Raises:
        ValueError: If a value cannot be used.
    """

    batch_size: int = 500
    """The most updates of one call."""
    interval: float = 0.002
    """Seconds from the end of one call to the next, unless a full batch waits. The first update is sent at once;
    updates within the interval share a call."""
    timeout: float | None = 10.0
    """The most seconds of one call; a longer one is cancelled and fails. None, or ``math.inf``, for no limit."""
    attempts: int = 1
    """Attempts to send the same updates. More than 1 means at-least-once: the receiver has to skip repeated updates."""
    backoff: Backoff = field(default_factory=Backoff)
    """Pauses between the attempts."""

    def __post_init__(self) -> None:
        count("updates").check("batch_size", self.batch_size, ValueError)
        seconds(zero="sends at once").check("interval", self.interval, ValueError)
        _TIMEOUT.check("timeout", self.timeout, ValueError)
        count("attempts").check("attempts", self.attempts, ValueError)

    @property
    def limit(self) -> float:
        """The `timeout` as a number."""
        return math.inf if self.timeout is None else self.timeout


@runtime_checkable
class PolicySink(Protocol):
    """A sink with its own policy of sending."""

    @property
    def policy(self) -> SendPolicy:
        """The policy, unless `attach` gets another one."""
        ...
