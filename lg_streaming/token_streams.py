"""Open token streams of one hub, and the rate of their tokens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from lg_streaming.fork import bury, new_rlock, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.events import Scope
    from lg_streaming.settings import TokenDefaults

__all__ = ["OpenTokenStreams", "TokenStream"]

_WINDOW: Final = 10
"""Seconds over which the rate is taken."""


class TokenStream(Protocol):
    """The text of one try of a node, or of one stream of the token service, on its way through its buffer."""

    execution_id: str
    config: TokenDefaults
    """The options in force."""
    received: int
    """Tokens received; those that the filter rejected too."""
    rejected: int
    """Tokens that the filter rejected, or of which the processor left nothing."""
    delivered: int
    """Tokens published."""
    updates: int
    """Updates published."""

    @property
    def scope(self) -> Scope:
        """The scope of most of its updates."""
        ...

    @property
    def buffered(self) -> int:
        """Tokens in the buffer."""
        ...

    @property
    def failures(self) -> int:
        """Failed calls of the processor."""
        ...

    def flush(self) -> None:
        """Publish the text in the buffer."""
        ...

    def report(self) -> None:
        """Report to the statistics the tokens that came in since the last report."""
        ...


class OpenTokenStreams:
    """Registry of the open token pipelines of a hub, by execution. Thread-safe.

    The hub flushes it before a run ends, see `RunListener`.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = new_rlock()
        self._open: dict[str, set[TokenStream]] = {}
        self._since = clock()
        self._per_second: dict[int, int] = {}
        self._total = 0
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Drop the streams of the parent process, which continue there."""
        bury(self._open)
        self._open = {}

    def attach(self, stream: TokenStream) -> None:
        """Add a stream."""
        with self._lock:
            self._open.setdefault(stream.execution_id, set()).add(stream)

    def detach(self, stream: TokenStream) -> None:
        """Remove a stream."""
        execution_id = stream.execution_id
        with self._lock:
            streams = self._open.get(execution_id)
            if streams is not None:
                streams.discard(stream)
                if not streams:
                    del self._open[execution_id]

    def executions(self) -> list[str]:
        """Return the executions that have an open stream."""
        with self._lock:
            return list(self._open)

    def streams(self, execution_id: str | None = None) -> list[TokenStream]:
        """Return the open streams of one execution, or of all."""
        if execution_id is not None and execution_id not in self._open:
            return []
        with self._lock:
            chosen = self._open.values() if execution_id is None else [self._open.get(execution_id, ())]
            return [stream for streams in chosen for stream in streams]

    # --- counts ---------------------------------------------------------------------------------------------

    def count(self, tokens: int) -> None:
        """Count tokens that were received."""
        with self._lock:
            self._total += tokens
            second, recent = int(self._clock()), self._per_second
            recent[second] = recent.get(second, 0) + tokens
            if len(recent) > _WINDOW + 1:
                del recent[next(iter(recent))]

    @property
    def total(self) -> int:
        """Tokens received since the hub was made."""
        return self._total

    @property
    def rate(self) -> float:
        """Tokens per second over the last ten seconds, or since the hub was made when that is less."""
        now = self._clock()
        with self._lock:
            recent = sum(count for second, count in self._per_second.items() if second > now - _WINDOW - 1)
        return round(recent / min(_WINDOW, max(1.0, now - self._since)), 3)

    # --- the hub's notifications ----------------------------------------------------------------------------

    def flush_execution(self, execution_id: str) -> None:
        """Publish the text that is buffered for an execution: its run is about to end."""
        for stream in self.streams(execution_id):
            stream.flush()

    def close_execution(self, execution_id: str) -> None:
        """Publish the text that is buffered for an execution. Its streams end with their nodes."""
        self.flush_execution(execution_id)

    def sweep(self) -> None:
        """Do nothing: a stream of a node is open for as long as the node runs."""

    def close(self) -> None:
        """Publish all text that is buffered: the hub closes."""
        for stream in self.streams():
            stream.flush()
