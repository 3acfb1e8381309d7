"""``@stream_token``: the model's text, piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack, overload

from lg_streaming.decorators.marking import ABSENT, Node, NodeSelection, decorate
from lg_streaming.pipeline import NodeOptions, TokenFilter, TokenOptions
from lg_streaming.pipeline.token_options import TokenProcessor
from lg_streaming.settings import TokenFormat

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StreamTokenOptions", "stream_token"]


class StreamTokenOptions(NodeSelection, total=False):
    """The options of `stream_token`."""

    enabled: bool | None
    """False leaves the node as it is. True."""
    buffer_size: int | None
    """Tokens that are held, 1 to 1000; with this many, all leave at once. 50."""
    batch_size: int | None
    """Tokens joined into one update at most, 1 to 1000. The update's ``index`` is that of the first, its ``batch_size``
    their number when it is above 1. Only text of one message is joined. 10."""
    flush_interval: float | None
    """Seconds a token is held at most, 0 to 60. 0 holds none. 0.1."""
    format: TokenFormat | None
    """The fields of an update's ``data`` besides ``content``, which is always the text. ``"text"``: ``index`` and
    ``role``. ``"structured"``: these, ``total_tokens`` (of the message so far, those that the filter rejected too) and
    ``message_id``. ``"json"``: as ``"text"``, and in ``json`` the structured object as one JSON string, to be passed on
    as it is. ``"text"``."""
    include_metadata: bool | None
    """True adds ``metadata`` to ``data``: the model's name, provider and parameters, and the graph's step. False."""
    processor: TokenProcessor | None
    """``processor(token, metadata) -> str``: the text that leaves in place of the token; an empty string removes it.
    ``metadata`` is a dict with ``type``, ``index``, ``role``, ``execution_id``, ``node_id``, ``message_id``,
    ``request_id``, and the keys that ``include_metadata`` adds. It is called in the thread of the token and should not
    wait. When it raises or returns something else, the token passes unprocessed, and there is an ``error`` update."""
    filter: TokenFilter | Mapping[str, Any] | None
    """Conditions for tokens that pass: a `TokenFilter` or a mapping of its fields."""
    first_token_immediately: bool | None
    """True publishes the first token of each message, and of its thinking, at once. True."""


@overload
def stream_token(node: Node, /, **options: Unpack[StreamTokenOptions]) -> Node: ...


@overload
def stream_token(**options: Unpack[StreamTokenOptions]) -> Callable[[Node], Node]: ...


def stream_token(node: Any = ABSENT, /, **options: Unpack[StreamTokenOptions]) -> Any:
    """Stream the text of the models a node calls, and with it reasoning and tool call arguments.

    Works on functions, methods, callable objects, generators and Runnables, sync and async, with or without
    parentheses, and together with the other decorators in any order. The node's signature, result and exceptions
    stay the same.

    Text goes through ``filter``, then ``processor``, is held for a moment, and leaves joined into updates. A full
    buffer leaves at once, a lone token after ``flush_interval``. All text that is held leaves when the node, a model
    call or a tool call ends. Joined, the text is exactly the text that passed the filter. Arguments of tool calls
    and other content blocks pass in order, without filter and processor.

    An option that is left out (None) is taken from the execution (``hub.configure``), else from the settings'
    ``token_defaults``. It is looked up when the node is called, and again while it runs when they are changed. The
    values that are named with each option are those of the settings where nothing is set.

    Args:
        node: The node, or a compiled graph, whose nodes are then all decorated, subgraphs and agents included.

    Raises:
        TokenStreamingError: If an option has a value that cannot be used.
        TypeError: If an option does not exist.
    """
    return decorate(node, StreamTokenOptions, options, _from_arguments)


def _from_arguments(options: Mapping[str, Any], node_id: str | None) -> NodeOptions:
    return NodeOptions(token=TokenOptions.from_arguments(**options), node_id=node_id)
