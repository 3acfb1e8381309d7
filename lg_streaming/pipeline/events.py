"""What happens in and around a node: its start and end, tools, models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict

from lg_streaming.errors import OptionNotAvailableError
from lg_streaming.events import Priority, StreamEventType

if TYPE_CHECKING:
    from lg_streaming.emitter import Emitter
    from lg_streaming.events import Scope

__all__ = ["EventFilter", "EventOptions", "EventPipeline", "Transformer"]

Transformer = Callable[[dict[str, Any]], dict[str, Any] | None]
"""``transformer(event) -> event``, or None to drop it."""


class EventFilter(TypedDict, total=False):
    """Which events pass; exclusion wins."""

    event_types: Sequence[str]
    exclude_types: Sequence[str]
    min_priority: Priority
    include_debug: bool


_NOT_YET: Final = frozenset({StreamEventType.VALUES, StreamEventType.UPDATES, StreamEventType.MESSAGES})
_GROUP: Final = ("node_", "tool_", "llm_")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOptions:
    """What ``@stream_event`` was given."""

    enabled: bool = True
    events: frozenset[str] = frozenset({StreamEventType.EVENTS})

    @staticmethod
    def check(events: Sequence[str]) -> frozenset[str]:
        """``events`` as a set.

        Raises:
            OptionNotAvailableError: It holds one of the graph's own stream modes.
        """
        wanted = frozenset(str(event) for event in events)
        if missing := sorted(wanted & _NOT_YET):
            raise OptionNotAvailableError(
                f"stream_event(events=…) cannot stream {', '.join(missing)} in this version: leave it out"
            )
        return wanted

    def wants(self, type: str) -> bool:
        """Whether an event leaves. ``events`` stands for all node, tool and model events."""
        return type in self.events or (StreamEventType.EVENTS in self.events and type.startswith(_GROUP))


class EventPipeline:
    """The way of one try of a node from what happens in it to the updates that leave."""

    def __init__(self, options: EventOptions, emitter: Emitter) -> None:
        self._options = options
        self._emitter = emitter

    def take(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """One event: of the node itself, of a tool or of a model."""
        if type.startswith("node_") or self._options.wants(type):
            self._emitter.send(type, data, scope)

    def close(self) -> None:
        """The node has ended, and its end was the last event: what is held leaves now."""
