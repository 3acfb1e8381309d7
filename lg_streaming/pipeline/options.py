"""The options of the three decorators.

``None`` means "not set". An option that this version declares but does not have yet raises
:class:`~lg_streaming.errors.OptionNotAvailableError` where it is set: nothing is accepted and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

from lg_streaming.errors import OptionNotAvailableError
from lg_streaming.events import Priority, StreamEventType

__all__ = [
    "EventFilter",
    "EventOptions",
    "Granularity",
    "ProgressCalculator",
    "ProgressFormat",
    "ProgressOptions",
    "TokenFilter",
    "TokenFormat",
    "TokenOptions",
    "TokenProcessor",
    "Transformer",
]

TokenFormat = Literal["text", "json", "structured"]
Granularity = Literal["coarse", "fine", "detailed"]
TokenProcessor = Callable[[str, Mapping[str, Any]], str]
"""``processor(token, metadata) -> token``."""
Transformer = Callable[[dict[str, Any]], dict[str, Any] | None]
"""``transformer(event) -> event``, or None to drop it."""
ProgressCalculator = Callable[[float, float, Mapping[str, Any]], float]
"""``calculator(current, total, metadata) -> percent``."""


class TokenFilter(TypedDict, total=False):
    """Which tokens pass."""

    min_length: int
    max_length: int
    exclude_whitespace: bool
    pattern: str | re.Pattern[str]


class EventFilter(TypedDict, total=False):
    """Which events pass; exclusion wins."""

    event_types: Sequence[str]
    exclude_types: Sequence[str]
    min_priority: Priority
    include_debug: bool


class ProgressFormat(TypedDict, total=False):
    """Which fields a progress update has."""

    show_percentage: bool
    show_current: bool
    show_total: bool
    show_rate: bool
    precision: int


def refuse_unavailable(decorator: str, **options: object) -> None:
    """Raises for every option that is set.

    Raises:
        OptionNotAvailableError: One is not None.
    """
    for name, value in options.items():
        if value is not None:
            raise OptionNotAvailableError(
                f"{decorator}({name}=…) is not available in this version of lg_streaming: leave it out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOptions:
    """What ``@stream_token`` was given."""

    enabled: bool = True


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressOptions:
    """What ``@stream_progress`` was given."""

    enabled: bool = True
    include_eta: bool = True
    include_metrics: bool = False
