"""``@stream_token``: the model's text, piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from lg_streaming.decorators.marking import ABSENT, Node, decorate
from lg_streaming.pipeline import NodeOptions, TokenOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from lg_streaming.pipeline import TokenFilter
    from lg_streaming.pipeline.token_options import TokenProcessor
    from lg_streaming.settings import TokenFormat

__all__ = ["stream_token"]


@overload
def stream_token(
    node: Node,
    /,
    *,
    enabled: bool | None = None,
    buffer_size: int | None = None,
    batch_size: int | None = None,
    flush_interval: float | None = None,
    format: TokenFormat | None = None,
    include_metadata: bool | None = None,
    processor: TokenProcessor | None = None,
    filter: TokenFilter | Mapping[str, Any] | None = None,
    first_token_immediately: bool | None = None,
    node_id: str | None = None,
    nodes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Node: ...


@overload
def stream_token(
    *,
    enabled: bool | None = None,
    buffer_size: int | None = None,
    batch_size: int | None = None,
    flush_interval: float | None = None,
    format: TokenFormat | None = None,
    include_metadata: bool | None = None,
    processor: TokenProcessor | None = None,
    filter: TokenFilter | Mapping[str, Any] | None = None,
    first_token_immediately: bool | None = None,
    node_id: str | None = None,
    nodes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Callable[[Node], Node]: ...


def stream_token(
    node: Any = ABSENT,
    /,
    *,
    enabled: bool | None = None,
    buffer_size: int | None = None,
    batch_size: int | None = None,
    flush_interval: float | None = None,
    format: TokenFormat | None = None,
    include_metadata: bool | None = None,
    processor: TokenProcessor | None = None,
    filter: TokenFilter | Mapping[str, Any] | None = None,
    first_token_immediately: bool | None = None,
    node_id: str | None = None,
    nodes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Any:
    """Streams the text of the models a node calls, and with it reasoning and tool call arguments.

    Works on functions, methods, callable objects, generators and Runnables, sync and async, with or without
    parentheses, and together with the other decorators in any order. The node's signature, result and exceptions
    stay what they are.

    Text goes through ``filter``, then ``processor``, is held for a moment, and leaves joined into updates: a full
    buffer leaves at once, a lone token after ``flush_interval``, and whatever is held when the node, a model call or
    a tool call ends. Joined, the text is exactly what the filter let through. Arguments of tool calls and other
    content blocks pass in order, without filter and processor.

    An option that is left out (None) is taken from the execution (``hub.configure``), else from the settings'
    ``token_defaults``; looked up when the node is called, and again while it runs when they are changed. The values
    below are those of the settings where nothing is set.

    Args:
        node: The node, or a compiled graph, whose nodes are then all decorated, subgraphs and agents included.
        enabled: False leaves the node as it is. True.
        buffer_size: Tokens that are held, 1 to 1000; with this many, all leave at once. 50.
        batch_size: Tokens joined into one update at most, 1 to 1000. The update's ``index`` is that of the first, its
            ``batch_size`` how many there are when there is more than one. Only text of one message is joined. 10.
        flush_interval: Seconds a token is held at most, 0 to 60. 0 holds none. 0.1.
        format: What an update's ``data`` holds beside ``content``, which is always the text. ``"text"``: ``index``
            and ``role``. ``"structured"``: these, ``total_tokens`` (of the message so far, those that the filter
            rejected too) and ``message_id``. ``"json"``: as ``"text"``, and in ``json`` the structured object as one
            JSON string, to be passed on as it is. ``"text"``.
        include_metadata: Whether ``data`` has ``metadata``: the model's name, provider and parameters, and the step
            of the graph. False.
        processor: ``processor(token, metadata) -> str``: what leaves in place of the token; an empty string removes
            it. ``metadata`` is a dict with ``type``, ``index``, ``role``, ``execution_id``, ``node_id``,
            ``message_id``, ``request_id``, and what ``include_metadata`` adds. It is called in the thread that said
            the token and should not wait. When it raises or returns something else, the token passes unprocessed, and
            there is an ``error`` update.
        filter: A `TokenFilter` or a mapping of its fields: which tokens pass.
        first_token_immediately: Whether the first token of each message, and of its thinking, leaves at once. True.
        node_id: The node's id in updates; its name in the graph when not given.
        nodes: Of a graph, the nodes to decorate: names, or paths such as ``agent/model``, as globs; all when not given.
        exclude: Of a graph, the nodes to leave out, in the same form.

    Raises:
        TokenStreamingError: An option has a value that cannot be used.
    """
    token = TokenOptions.of(
        enabled=enabled,
        buffer_size=buffer_size,
        batch_size=batch_size,
        flush_interval=flush_interval,
        format=format,
        include_metadata=include_metadata,
        processor=processor,
        filter=filter,
        first_token_immediately=first_token_immediately,
    )
    options = NodeOptions(token=token, node_id=node_id)
    return decorate(node, options, nodes, exclude)
