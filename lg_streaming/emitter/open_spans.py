"""What an emitter has opened and not closed yet: messages, tool calls, nodes."""

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
    """A part that has begun."""

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
    """The parts an emitter and those made of it have open, in the order in which they began. Thread-safe.

    It remembers the newest 1,000; what was opened before those and is never closed stays open.
    """

    __slots__ = ("_parts", "lock")

    def __init__(self) -> None:
        self.lock: threading.Lock = new_lock()
        """Also of what the emitters of these parts count."""
        self._parts: dict[tuple[SpanKind, str], OpenSpan] = {}

    def open(self, part: OpenSpan) -> None:
        """``part`` begins; one of the same kind and id begins anew."""
        with self.lock:
            self._parts.pop((part.kind, part.id), None)
            self._parts[part.kind, part.id] = part
            if len(self._parts) > _MOST:
                del self._parts[next(iter(self._parts))]

    def close(self, kind: SpanKind, id: str) -> OpenSpan | None:
        """The part, which is open no more; None when it was not."""
        with self.lock:
            return self._parts.pop((kind, id), None)

    def latest(self, kind: SpanKind, name: str | None = None) -> OpenSpan | None:
        """The one that began last, of those with this name where one is given."""
        with self.lock:
            for part in reversed(self._parts.values()):
                if part.kind == kind and name in {None, part.name}:
                    return part
        return None

    def drain(self) -> list[OpenSpan]:
        """All of them, the newest first; none is open any more."""
        with self.lock:
            parts = list(reversed(self._parts.values()))
            self._parts.clear()
        return parts
