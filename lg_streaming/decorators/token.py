"""``@stream_token``: the model's text, piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from lg_streaming.decorators.marking import Node, mark
from lg_streaming.pipeline import NodeOptions, TokenOptions
from lg_streaming.pipeline.options import refuse_unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from lg_streaming.pipeline import TokenFilter
    from lg_streaming.pipeline.tokens import TokenFormat, TokenProcessor

__all__ = ["stream_token"]


@overload
def stream_token(node: Node, /) -> Node: ...


@overload
def stream_token(
    *,
    enabled: bool = True,
    buffer_size: int | None = None,
    batch_size: int | None = None,
    flush_interval: float | None = None,
    format: TokenFormat | None = None,
    include_metadata: bool | None = None,
    processor: TokenProcessor | None = None,
    filter: TokenFilter | Mapping[str, Any] | None = None,
    first_token_immediately: bool | None = None,
    node_id: str | None = None,
) -> Callable[[Node], Node]: ...


def stream_token(
    node: Node | None = None,
    /,
    *,
    enabled: bool = True,
    buffer_size: int | None = None,
    batch_size: int | None = None,
    flush_interval: float | None = None,
    format: TokenFormat | None = None,
    include_metadata: bool | None = None,
    processor: TokenProcessor | None = None,
    filter: TokenFilter | Mapping[str, Any] | None = None,
    first_token_immediately: bool | None = None,
    node_id: str | None = None,
) -> Node | Callable[[Node], Node]:
    """Streams the text of the models a node calls, and with it reasoning and tool call arguments.

    Works on functions, methods, callable objects, generators and Runnables, sync and async, with or without
    parentheses, and together with the other decorators in any order. The node's signature, result and exceptions
    stay what they are.

    Args:
        node: The node, when used without parentheses.
        enabled: False leaves the node as it is.
        buffer_size: Not available in this version.
        batch_size: Not available in this version; every token leaves by itself.
        flush_interval: Not available in this version; every token leaves at once.
        format: Not available in this version; tokens are objects ``{content, index, role}``.
        include_metadata: Not available in this version.
        processor: Not available in this version.
        filter: Not available in this version.
        first_token_immediately: Not available in this version; every token leaves at once.
        node_id: The node's id in updates; its name in the graph when not given.

    Raises:
        OptionNotAvailableError: An option that is not available in this version is set.
    """
    refuse_unavailable(
        "stream_token",
        buffer_size=buffer_size,
        batch_size=batch_size,
        flush_interval=flush_interval,
        format=format,
        include_metadata=include_metadata,
        processor=processor,
        filter=filter,
        first_token_immediately=first_token_immediately,
    )
    options = NodeOptions(token=TokenOptions(enabled=enabled), node_id=node_id)
    return mark(node, options) if node is not None else lambda node: mark(node, options)
