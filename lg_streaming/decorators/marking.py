"""Marks a node with options; several decorators on one node make one wrapper with all their options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from lg_streaming.capture import StreamedRunnable, original_of, wrap_node
from lg_streaming.pipeline import NodeOptions

__all__ = ["Node", "mark", "streaming_options"]

Node = TypeVar("Node", bound=Callable[..., Any] | Any)
"""A node: what a decorator returns has the type of what it was given."""

_OPTIONS: Final = "__lg_streaming_options__"


def mark(node: Node, options: NodeOptions) -> Node:
    """``node`` with ``options`` added to those it has."""
    known = streaming_options(node)
    if known is not None:
        options = known.merged(options)
    wrapped = wrap_node(original_of(node), options)
    if not isinstance(wrapped, StreamedRunnable):
        setattr(wrapped, _OPTIONS, options)
    return cast("Node", wrapped)


def streaming_options(node: object) -> NodeOptions | None:
    """What the decorators on ``node`` ask for; None when there are none.

    ``options.token``, ``options.event`` and ``options.progress`` are None for a decorator that is not there.
    """
    found = node.plan if isinstance(node, StreamedRunnable) else getattr(node, _OPTIONS, None)
    return found if isinstance(found, NodeOptions) else None
