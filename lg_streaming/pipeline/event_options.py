"""The options of ``@stream_event``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypedDict, cast

from lg_streaming.errors import BadRequestError, StreamingConfigError
from lg_streaming.events import Priority, StreamEventType, kind_of
from lg_streaming.filters import ALL, UpdateFilter
from lg_streaming.pipeline.decorator_options import DecoratorOptions, checked_options
from lg_streaming.settings import EventDefaults

__all__ = ["EventFilter", "EventOptions", "Redact", "Transformer"]

Transformer = Callable[[dict[str, Any]], Mapping[str, Any] | None]
"""``transformer(event) -> event``, or None to drop it; ``event`` is ``{type, data, priority, metadata}``."""

Redact = Callable[[str, Any], Any]
"""``redact(type, data) -> data``: returns the data that may be published. It gets plain JSON values."""


class EventFilter(TypedDict, total=False):
    """Conditions for events. All must be met; exclusion wins. The node's own start and end always pass.

    Names of types may hold ``*`` for any run of characters; ``events`` means all node, tool and model events.
    """

    event_types: Sequence[str]
    """The only types that pass."""
    exclude_types: Sequence[str]
    """Types that do not pass, even where ``event_types`` names them."""
    min_priority: Priority
    """The lowest priority that passes; default: ``low``, which passes all."""
    include_debug: bool
    """True if ``debug`` and ``debug:…`` pass; default: False."""


_GROUP: Final = ("node_", "tool_", "llm_")
_PROGRESS: Final = frozenset(each for each in StreamEventType if kind_of(each) == "progress")
_CAPTURED: Final = frozenset(
    {
        *(StreamEventType.EVENTS, StreamEventType.USAGE, StreamEventType.DEBUG),
        *(StreamEventType.VALUES, StreamEventType.UPDATES, StreamEventType.MESSAGES),
        *(StreamEventType.PROGRESS, StreamEventType.MILESTONE, StreamEventType.ERROR),
        *(each for each in StreamEventType if each.startswith(_GROUP) and each != StreamEventType.TOOL_ARGS),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOptions(DecoratorOptions[EventDefaults]):
    """The options of ``@stream_event``. Make them with `from_arguments`."""

    events: frozenset[str] = frozenset({StreamEventType.EVENTS})
    transformer: Transformer | None = None
    redact: Redact | None = None
    only: UpdateFilter = ALL
    """The types that pass."""
    excluded: UpdateFilter | None = None
    """The types that do not pass; None when none is excluded."""

    @classmethod
    def from_arguments(
        cls,
        *,
        events: Sequence[str] | None = None,
        transformer: Transformer | None = None,
        filter: EventFilter | Mapping[str, Any] | None = None,
        redact: Redact | None = None,
        **options: Any,
    ) -> Self:
        """Return the options as the decorator takes them, checked. ``options`` are those of `EventDefaults`.

        Raises:
            StreamingConfigError: If a value cannot be used; the message names the value and the reason.
        """
        conditions: dict[str, Any] = dict(filter or {})
        only = _types("event_types", conditions.pop("event_types", None))
        excluded = _types("exclude_types", conditions.pop("exclude_types", None))
        if unknown := conditions.keys() - EventFilter.__annotations__.keys():
            raise StreamingConfigError(
                f"stream_event(filter=…) has {', '.join(sorted(unknown))}; "
                f"it can have {', '.join(EventFilter.__annotations__)}"
            )
        return cls(
            chosen=checked_options(
                "stream_event", EventDefaults, {**options, **conditions}, error=StreamingConfigError
            ),
            events=_checked_events(events) if events is not None else frozenset({StreamEventType.EVENTS}),
            transformer=_function("transformer(event)", transformer),
            redact=_function("redact(type, data)", redact),
            only=only or ALL,
            excluded=excluded,
        )

    def wants(self, type: str) -> bool:
        """Return whether ``events`` includes a type.

        ``events`` means all node, tool and model events, ``error`` their errors, ``progress`` also milestones.
        """
        return (
            type in self.events
            or (StreamEventType.EVENTS in self.events and type.startswith(_GROUP))
            or (StreamEventType.ERROR in self.events and type.endswith("_error"))
            or (StreamEventType.PROGRESS in self.events and type in _PROGRESS)
        )

    @property
    def tracks(self) -> bool:
        """True if ``events`` includes the node's progress."""
        return bool(self.progress_types)

    @property
    def progress_types(self) -> frozenset[str]:
        """The types of progress that ``events`` includes."""
        return frozenset(each for each in _PROGRESS if self.wants(each))

    def lets_through(self, type: str) -> bool:
        """Return whether a type passes the filter."""
        return self.only.accepts_type(type) and not (self.excluded is not None and self.excluded.accepts_type(type))


def _checked_events(events: Sequence[str]) -> frozenset[str]:
    if isinstance(events, str):
        raise StreamingConfigError(f"stream_event(events=…) is a list of types: write [{str(events)!r}]")
    wanted = frozenset(str(event) for event in events)
    for name in sorted(wanted - _CAPTURED):
        if name == "tool_args" or kind_of(name) == "token":
            raise StreamingConfigError(f"stream_event(events=…) has {name!r}, which is what @stream_token is for")
        raise StreamingConfigError(
            f"stream_event(events=…) has {name!r}; it can be {', '.join(sorted(_CAPTURED))}. "
            "Events that a node emits itself are published without being named here"
        )
    return wanted


def _types(name: str, types: object) -> UpdateFilter | None:
    if types is None:
        return None
    if isinstance(types, str) or not isinstance(types, (Sequence, set, frozenset)) or not types:
        raise StreamingConfigError(
            f"stream_event(filter={{{name!r}: …}}) is a list of at least one type, not {types!r:.80}"
        )
    names = {str(each) for each in cast("Sequence[object]", types)}
    if StreamEventType.EVENTS in names:
        names = names - {StreamEventType.EVENTS} | {f"{group}*" for group in _GROUP}
    try:
        return UpdateFilter.of(types=sorted(names))
    except BadRequestError as error:
        raise StreamingConfigError(f"stream_event(filter={{{name!r}: …}}): {error}") from None


def _function(usage: str, function: Any) -> Any:
    if function is not None and (not callable(function) or inspect.iscoroutinefunction(function)):
        name = usage.partition("(")[0]
        raise StreamingConfigError(f"stream_event({name}=…) is a plain function {usage}, not {function!r:.80}")
    return function
