"""``@stream_event``: events of the node, its tools and its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

from lg_streaming.decorators.marking import ABSENT, Node, NodeSelection, decorate
from lg_streaming.events import Delivery, StreamEventType
from lg_streaming.pipeline import EventFilter, EventOptions, NodeOptions
from lg_streaming.pipeline.event_options import Redact, Transformer

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StreamEventOptions", "stream_event"]


class StreamEventOptions(NodeSelection, total=False):
    """The options of `stream_event`."""

    enabled: bool | None
    """False leaves the node as it is. True."""
    events: Sequence[StreamEventType | str]
    """The types of events that are captured. ``events``, the default, means all node, tool and model events; or
    name some: ``node_complete`` (the node's result), ``tool_start``, ``tool_complete``, ``tool_error``, ``llm_start``,
    ``llm_complete``, ``llm_error``. ``usage`` is the tokens of a model call. ``updates`` (``{node_id: update}``) is
    the node's result for the state, ``messages`` the messages in it. ``values`` is the state the node was called with,
    ``debug`` the reason of the graph's call. State leaves only where it is asked for by ``values`` or
    ``include_state``. ``progress`` sends the node's progress and its milestones, as `stream_progress` without options
    does, and through this decorator's filter; ``milestone`` only the milestones. ``error`` means ``node_error``,
    ``tool_error`` and ``llm_error``."""
    buffer_size: int | None
    """Events that may wait, 1 to 10000; with this many, all leave at once. 100."""
    batch_size: int | None
    """Events that are appended to the log in one go, 1 to 1000: nothing comes between them, and readers are woken once.
    Each stays a separate update. 10."""
    flush_interval: float | None
    """Seconds, 0 to 10. An event that comes at least this long after the last one left leaves at once. Events that
    follow it closer wait, this long at most. Errors, other events of priority ``high`` or ``critical``, and the node's
    own start and end never wait. Nothing waits past them or past a piece of text. 0.05."""
    delivery: Delivery | None
    """The guarantee until an event is in the log. ``"at-most-once"``: under pressure it may be dropped, and is counted.
    ``"at-least-once"``: it is not dropped. ``"exactly-once"``: it is not dropped, and not repeated when the node is
    tried again: the n-th event of a type is appended once. It is for nodes that do the same in each try. The node's
    own start and end are always ``at-least-once``. ``"at-least-once"``."""
    transformer: Transformer | None
    """``transformer(event)`` gets ``{type, data, priority, metadata}`` as plain JSON values and returns the event that
    readers get, changed or not. Keys that it adds, to the event or to its ``metadata``, leave as the update's own
    metadata; a reserved key is passed over. The values that ``metadata`` has already are for reading. None drops the
    event. When it raises or returns something else the event passes as it was, and there is an ``error`` update. It
    runs in the thread in which the event happened and should not wait."""
    filter: EventFilter | Mapping[str, Any] | None
    """Conditions for events that pass: an `EventFilter` or a mapping of its fields."""
    include_state: bool | None
    """True publishes the state the node was called with, as a ``values`` update. False."""
    redact: Redact | None
    """``redact(type, data) -> data``, the last function to see an event of this node. It gets plain JSON values. When
    it raises, the data is withheld. The ``redact`` of the ``StreamingModule`` comes after it."""


@overload
def stream_event(node: Node, /, **options: Unpack[StreamEventOptions]) -> Node: ...


@overload
def stream_event(**options: Unpack[StreamEventOptions]) -> Callable[[Node], Node]: ...


def stream_event(node: Any = ABSENT, /, **options: Unpack[StreamEventOptions]) -> Any:
    """Stream the node's start and end with its result, its tool calls, and its model calls.

    Used like `stream_token`. The node's own start and end leave from every decorated node; its result leaves only with
    this decorator. Updates that the node writes with `current_emitter`, other than text and progress, go the same way,
    independent of ``events``.

    An event goes through ``filter``, ``transformer`` and ``redact``, in this order. Nothing stops the node's own
    start and end (``node_start``, ``node_complete``, ``node_error``, ``node_interrupted``), since readers
    distinguish tries and branches by them. Where the filter excludes one or the transformer drops it, it leaves with
    ``node_id``, ``node_name``, ``attempt`` and ``duration_s`` only.

    An option that is left out (None) is taken from the execution (``hub.configure``), else from the settings'
    ``event_defaults``. It is looked up when the node is called, and again while it runs when they are changed. The
    values that are named with each option are those of the settings where nothing is set.

    Args:
        node: The node, or a compiled graph, whose nodes are then all decorated, subgraphs and agents included.

    Raises:
        StreamingConfigError: If an option has a value that cannot be used.
        TypeError: If an option does not exist.
    """
    return decorate(node, StreamEventOptions, options, _from_arguments)


def _from_arguments(options: Mapping[str, Any], node_id: str | None) -> NodeOptions:
    return NodeOptions(event=EventOptions.from_arguments(**options), node_id=node_id)
