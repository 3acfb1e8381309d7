"""``@stream_event``: what the node, its tools and its models do."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from lg_streaming.decorators.marking import ABSENT, Node, decorate
from lg_streaming.events import StreamEventType
from lg_streaming.pipeline import EventOptions, NodeOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from lg_streaming.pipeline import EventFilter
    from lg_streaming.pipeline.event_options import Redact, Transformer
    from lg_streaming.publisher import Delivery

__all__ = ["stream_event"]


@overload
def stream_event(
    node: Node,
    /,
    *,
    enabled: bool | None = None,
    events: Sequence[StreamEventType | str] = (StreamEventType.EVENTS,),
    buffer_size: int | None = None,
    batch_size: int | None = None,
    flush_interval: float | None = None,
    delivery: Delivery | None = None,
    transformer: Transformer | None = None,
    filter: EventFilter | Mapping[str, Any] | None = None,
    include_state: bool | None = None,
    redact: Redact | None = None,
    node_id: str | None = None,
    nodes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Node: ...


@overload
def stream_event(
    *,
    enabled: bool | None = None,
    events: Sequence[StreamEventType | str] = (StreamEventType.EVENTS,),
    buffer_size: int | None = None,
    batch_size: int | None = None,
    flush_interval: float | None = None,
    delivery: Delivery | None = None,
    transformer: Transformer | None = None,
    filter: EventFilter | Mapping[str, Any] | None = None,
    include_state: bool | None = None,
    redact: Redact | None = None,
    node_id: str | None = None,
    nodes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Callable[[Node], Node]: ...


def stream_event(
    node: Any = ABSENT,
    /,
    *,
    enabled: bool | None = None,
    events: Sequence[StreamEventType | str] = (StreamEventType.EVENTS,),
    buffer_size: int | None = None,
    batch_size: int | None = None,
    flush_interval: float | None = None,
    delivery: Delivery | None = None,
    transformer: Transformer | None = None,
    filter: EventFilter | Mapping[str, Any] | None = None,
    include_state: bool | None = None,
    redact: Redact | None = None,
    node_id: str | None = None,
    nodes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Any:
    """Streams the node's start and end with its result, its tool calls, and its model calls.

    Used like `stream_token`. The node's own start and end leave from every decorated node;
    its result leaves only with this decorator. What the node says itself with `current_emitter`,
    beside text and progress, goes the same way, whatever ``events`` names.

    An event goes through ``filter``, ``transformer`` and ``redact``, in this order. Nothing stops the node's own
    start and end (``node_start``, ``node_complete``, ``node_error``, ``node_interrupted``), since readers tell tries
    and branches apart by them: where the filter excludes one or the transformer drops it, it leaves with
    ``node_id``, ``node_name``, ``attempt`` and ``duration_s`` only.

    An option that is left out (None) is taken from the execution (``hub.configure``), else from the settings'
    ``event_defaults``; looked up when the node is called, and again while it runs when they are changed. The values
    below are those of the settings where nothing is set.

    Args:
        node: The node, or a compiled graph, whose nodes are then all decorated, subgraphs and agents included.
        enabled: False leaves the node as it is. True.
        events: What is captured. ``events``, the default, stands for all node, tool and model events; or name some:
            ``node_complete`` (the node's result), ``tool_start``, ``tool_complete``, ``tool_error``, ``llm_start``,
            ``llm_complete``, ``llm_error``. Further there are ``usage`` (what a model call cost in tokens),
            ``updates`` (``{node_id: update}``, what the node returned for the state), ``messages`` (those in it),
            ``values`` (the state the node was called with) and ``debug`` (why the graph called it). State leaves only
            where it is asked for by ``values`` or ``include_state``. ``progress`` sends the node's progress and its
            milestones, as `stream_progress` without options does, and through this decorator's filter; ``milestone``
            only the milestones. ``error`` stands for ``node_error``, ``tool_error`` and ``llm_error``.
        buffer_size: Events that may wait, 1 to 10000; with this many, all leave at once. 100.
        batch_size: Events that are appended to the log in one go, 1 to 1000: nothing comes between them, and readers
            are woken once. Each stays an update of its own. 10.
        flush_interval: Seconds, 0 to 10. An event that comes at least this long after the last one left leaves at
            once; those that follow it closer wait, this long at most. Errors, whatever else has a priority of
            ``high`` or ``critical``, and the node's own start and end never wait, and nothing waits past them or past
            a piece of text. 0.05.
        delivery: What may happen to an event before it is in the log. ``"at-most-once"``: under pressure it may be
            dropped, which is counted. ``"at-least-once"``: it is not. ``"exactly-once"``: it is not, and when the node
            is tried again, its first event of a type is not appended again, nor its second, and so on; for nodes that
            do the same in each try. The node's own start and end are always ``at-least-once``. ``"at-least-once"``.
        transformer: ``transformer(event)`` gets ``{type, data, priority, metadata}`` as plain JSON values and returns
            it, changed or not; what it returns is what readers get. Keys that it adds, to the event or to its
            ``metadata``, leave as the update's own metadata; a reserved key is passed over. The values that
            ``metadata`` has already are for reading. None drops the event. When it raises or returns something else
            the event passes as it was, and there is an ``error`` update. It runs in the thread in which the event
            happened and should not wait.
        filter: A `EventFilter` or a mapping of its fields.
        include_state: Whether the state the node was called with leaves, as a ``values`` update. False.
        redact: ``redact(type, data) -> data``, the last to see an event of this node. It gets plain JSON values. When
            it raises, the data is withheld. The ``redact`` of the ``StreamingModule`` comes after it.
        node_id: The node's id in updates; its name in the graph when not given.
        nodes: Of a graph, the nodes to decorate: names, or paths such as ``agent/model``, as globs; all when not given.
        exclude: Of a graph, the nodes to leave out, in the same form.

    Raises:
        StreamingConfigError: An option has a value that cannot be used.
    """
    event = EventOptions.of(
        enabled=enabled,
        events=events,
        buffer_size=buffer_size,
        batch_size=batch_size,
        flush_interval=flush_interval,
        delivery=delivery,
        transformer=transformer,
        filter=filter,
        include_state=include_state,
        redact=redact,
    )
    options = NodeOptions(event=event, node_id=node_id)
    return decorate(node, options, nodes, exclude)
