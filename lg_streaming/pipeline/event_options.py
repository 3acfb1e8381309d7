"""What ``@stream_event`` can be told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypedDict, cast

from pydantic import ValidationError

from lg_streaming.checks import refused_option
from lg_streaming.errors import BadRequestError, StreamingConfigError
from lg_streaming.events import Priority, StreamEventType, kind_of
from lg_streaming.filters import ALL, UpdateFilter
from lg_streaming.publisher import Delivery
from lg_streaming.settings import EventDefaults

__all__ = ["EventFilter", "EventOptions", "Redact", "Transformer"]

Transformer = Callable[[dict[str, Any]], Mapping[str, Any] | None]
"""``transformer(event) -> event``, or None to drop it; ``event`` is ``{type, data, priority, metadata}``."""

Redact = Callable[[str, Any], Any]
"""``redact(type, data) -> data``: what may leave of an event's data. It gets plain JSON values."""


class EventFilter(TypedDict, total=False):
    """Which events pass. All parts must agree; exclusion wins. The node's own start and end always pass.

    Names of types may hold ``*`` for any run of characters; ``events`` stands for all node, tool and model events.
    """

    event_types: Sequence[str]
    """Only these pass."""
    exclude_types: Sequence[str]
    """These do not, also where ``event_types`` names them."""
    min_priority: Priority
    """The lowest priority that passes; ``low``, which is all, where nothing is set."""
    include_debug: bool
    """Whether ``debug`` and ``debug:…`` may pass; False where nothing is set."""


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
class EventOptions:
    """What ``@stream_event`` was given."""

    events: frozenset[str] = frozenset({StreamEventType.EVENTS})
    transformer: Transformer | None = None
    redact: Redact | None = None
    only: UpdateFilter = ALL
    """The types that pass."""
    excluded: UpdateFilter | None = None
    """The types that do not; None when none is excluded."""
    own: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The options that have a default in the settings, where they were given."""

    @classmethod
    def of(
        cls,
        *,
        events: Sequence[str] | None = None,
        transformer: Transformer | None = None,
        filter: EventFilter | Mapping[str, Any] | None = None,
        redact: Redact | None = None,
        **plain: Any,
    ) -> Self:
        """The options, checked. ``plain`` are those of `EventDefaults`.

        Raises:
            StreamingConfigError: A value cannot be used; the message says which, and why.
        """
        conditions: dict[str, Any] = dict(filter or {})
        only = _types("event_types", conditions.pop("event_types", None))
        excluded = _types("exclude_types", conditions.pop("exclude_types", None))
        if unknown := conditions.keys() - EventFilter.__annotations__.keys():
            raise StreamingConfigError(
                f"stream_event(filter=…) has {', '.join(sorted(unknown))}; "
                f"it knows {', '.join(EventFilter.__annotations__)}"
            )
        return cls(
            events=_captured(events) if events is not None else frozenset({StreamEventType.EVENTS}),
            transformer=_function("transformer(event)", transformer),
            redact=_function("redact(type, data)", redact),
            only=only or ALL,
            excluded=excluded,
            own=_checked({**plain, **conditions}),
        )

    @property
    def enabled(self) -> bool | None:
        """Whether it was switched on or off; None for neither."""
        return self.own.get("enabled")

    @property
    def delivery(self) -> Delivery | None:
        """The delivery level that was given."""
        return self.own.get("delivery")

    def resolved(self, defaults: EventDefaults) -> EventDefaults:
        """The options that were given, and ``defaults`` where they were not."""
        return defaults.model_copy(update=self.own) if self.own else defaults

    def wants(self, type: str) -> bool:
        """Whether an event is asked for.

        ``events`` stands for all node, tool and model events, ``error`` for their errors, ``progress`` for milestones
        too.
        """
        return (
            type in self.events
            or (StreamEventType.EVENTS in self.events and type.startswith(_GROUP))
            or (StreamEventType.ERROR in self.events and type.endswith("_error"))
            or (StreamEventType.PROGRESS in self.events and type in _PROGRESS)
        )

    @property
    def tracks(self) -> bool:
        """Whether the node's progress is asked for."""
        return bool(self.progress_types)

    @property
    def progress_types(self) -> frozenset[str]:
        """The types of progress that are asked for."""
        return frozenset(each for each in _PROGRESS if self.wants(each))

    def lets_through(self, type: str) -> bool:
        """Whether the filter's types let an event pass."""
        return self.only.accepts_type(type) and not (self.excluded is not None and self.excluded.accepts_type(type))


def _captured(events: Sequence[str]) -> frozenset[str]:
    if isinstance(events, str):
        raise StreamingConfigError(f"stream_event(events=…) is a list of types: write [{str(events)!r}]")
    wanted = frozenset(str(event) for event in events)
    for name in sorted(wanted - _CAPTURED):
        if name == "tool_args" or kind_of(name) == "token":
            raise StreamingConfigError(f"stream_event(events=…) has {name!r}, which is what @stream_token is for")
        raise StreamingConfigError(
            f"stream_event(events=…) has {name!r}; it can be {', '.join(sorted(_CAPTURED))}. "
            "What a node emits itself leaves without being named here"
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


def _checked(plain: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in plain.items() if value is not None}
    try:
        checked = EventDefaults.model_validate(given)
    except ValidationError as error:
        problems = [refused_option("stream_event", str(each["loc"][0]), each) for each in error.errors()]
        raise StreamingConfigError("; ".join(problems)) from None
    return {name: getattr(checked, name) for name in given}
