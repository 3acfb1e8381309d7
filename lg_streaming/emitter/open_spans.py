"""The open spans of an emitter: messages, tool calls and nodes that it has begun and not ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from lg_streaming.fork import new_lock

if TYPE_CHECKING:
    import threading

    from lg_streaming.publisher import Scope

__all__ = ["OpenSpan", "OpenSpans", "SpanKind"]

SpanKind = Literal["llm", "tool", "node"]

_MOST: Final = 1_000


@dataclass(frozen=True, slots=True)
class OpenSpan:
    """A span that has begun."""

    kind: SpanKind
    id: str
    """A node's id, or the id of a tool call or a message."""
    name: str | None
    """A node's name, a tool's or a model's."""
    scope: Scope
    began_at: float = field(default_factory=time.perf_counter)

    @property
    def duration_s(self) -> float:
        """Seconds since it began."""
        return round(time.perf_counter() - self.began_at, 6)


class OpenSpans:
    """The open spans of an emitter and its copies, in the order in which they began. Thread-safe.

    It keeps the newest 1,000; older spans that are never closed stay open for readers.
    """

    __slots__ = ("_spans", "lock")

    def __init__(self) -> None:
        self.lock: threading.Lock = new_lock()
        """The lock, also of the counts of these emitters."""
        self._spans: dict[tuple[SpanKind, str], OpenSpan] = {}

    def open(self, span: OpenSpan) -> None:
        """Add a span; one of the same kind and id begins anew."""
        with self.lock:
            self._spans.pop((span.kind, span.id), None)
            self._spans[span.kind, span.id] = span
            if len(self._spans) > _MOST:
                del self._spans[next(iter(self._spans))]

    def close(self, kind: SpanKind, id: str) -> OpenSpan | None:
        """Remove and return a span; None when it was not open."""
        with self.lock:
            return self._spans.pop((kind, id), None)

    def latest(self, kind: SpanKind, name: str | None = None) -> OpenSpan | None:
        """Return the span that began last, of those with this name where one is given."""
        with self.lock:
            for span in reversed(self._spans.values()):
                if span.kind == kind and name in {None, span.name}:
                    return span
        return None

    def drain(self) -> list[OpenSpan]:
        """Remove and return all spans, the newest first."""
        with self.lock:
            spans = list(reversed(self._spans.values()))
            self._spans.clear()
        return spans
