"""``@stream_event``: what the node, its tools and its models do."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from lg_streaming.decorators.marking import Node, mark
from lg_streaming.events import StreamEventType
from lg_streaming.pipeline import EventOptions, NodeOptions
from lg_streaming.pipeline.options import refuse_unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from lg_streaming.pipeline import EventFilter
    from lg_streaming.pipeline.events import Transformer
    from lg_streaming.scope import Delivery

__all__ = ["stream_event"]


@overload
def stream_event(node: Node, /) -> Node: ...


@overload
def stream_event(
    *,
    enabled: bool = True,
    events: Sequence[StreamEventType | str] = (StreamEventType.EVENTS,),
    buffer_size: int | None = None,
    batch_size: int | None = None,
    delivery: Delivery | None = None,
    transformer: Transformer | None = None,
    filter: EventFilter | Mapping[str, Any] | None = None,
    include_state: bool | None = None,
    redact: Callable[[str, Any], Any] | None = None,
    node_id: str | None = None,
) -> Callable[[Node], Node]: ...


def stream_event(
    node: Node | None = None,
    /,
    *,
    enabled: bool = True,
    events: Sequence[StreamEventType | str] = (StreamEventType.EVENTS,),
    buffer_size: int | None = None,
    batch_size: int | None = None,
    delivery: Delivery | None = None,
    transformer: Transformer | None = None,
    filter: EventFilter | Mapping[str, Any] | None = None,
    include_state: bool | None = None,
    redact: Callable[[str, Any], Any] | None = None,
    node_id: str | None = None,
) -> Node | Callable[[Node], Node]:
    """Streams the node's start and end with its result, its tool calls, and its model calls.

    Used like :func:`~lg_streaming.stream_token`. The node's own start and end leave from every decorated node;
    its result leaves only with this decorator.

    Args:
        node: The node, when used without parentheses.
        enabled: False leaves the node as it is.
        events: The types that leave beside the node's own start and end: ``tool_start``, ``tool_complete``,
            ``tool_error``, ``llm_start``, ``llm_complete``, ``llm_error``. ``events`` stands for all of them.
        buffer_size: Not available in this version.
        batch_size: Not available in this version; every event leaves by itself.
        delivery: Not available in this version; every event is delivered at least once.
        transformer: Not available in this version.
        filter: Not available in this version.
        include_state: Not available in this version; state never leaves.
        redact: Not available in this version; give ``redact`` to the ``StreamingModule``.
        node_id: The node's id in updates; its name in the graph when not given.

    Raises:
        OptionNotAvailableError: An option that is not available in this version is set.
    """
    refuse_unavailable(
        "stream_event",
        buffer_size=buffer_size,
        batch_size=batch_size,
        delivery=delivery,
        transformer=transformer,
        filter=filter,
        include_state=include_state,
        redact=redact,
    )
    options = NodeOptions(event=EventOptions(enabled=enabled, events=EventOptions.check(events)), node_id=node_id)
    return mark(node, options) if node is not None else lambda node: mark(node, options)
