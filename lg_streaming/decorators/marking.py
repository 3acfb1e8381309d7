"""Marks a node with options; several decorators on one node make one wrapper with all their options."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypedDict, TypeVar, cast

from lg_streaming.capture import (
    Selection,
    StreamedRunnable,
    decorate_graph,
    get_graph_plan,
    get_held_function,
    is_graph,
    replace_held_function,
    unwrap_node,
    wrap_node,
)
from lg_streaming.errors import StreamingConfigError
from lg_streaming.pipeline import NodeOptions

__all__ = ["ABSENT", "Node", "NodeSelection", "check_names", "decorate", "mark", "streaming_options"]

Node = TypeVar("Node", bound=Callable[..., Any] | Any)
"""A node. A decorator returns the type that it was given."""


class NodeSelection(TypedDict, total=False):
    """The options of every decorator: the node's name, and the nodes of a graph."""

    node_id: str | None
    """The node's id in updates; its name in the graph when not given."""
    nodes: Sequence[str] | None
    """Of a graph, the nodes to decorate: names, or paths such as ``agent/model``, as globs; all when not given."""
    exclude: Sequence[str]
    """Of a graph, the nodes to leave out, in the same form."""


_OPTIONS: Final = "__lg_streaming_options__"

ABSENT: Final[Any] = object()
"""The default of a decorator's first argument: the decorator is used with parentheses."""


def check_names(options: type, arguments: Mapping[str, Any]) -> None:
    """Check that ``arguments`` have names of a TypedDict's fields only, as Python does with named parameters.

    Raises:
        TypeError: If a name is not one of them.
    """
    for name in arguments:
        if name not in options.__annotations__:
            decorator = re.sub("(?<!^)(?=[A-Z])", "_", options.__name__.removesuffix("Options")).lower()
            raise TypeError(f"{decorator}() got an unexpected keyword argument {name!r}")


def decorate(
    node: Any,
    options: type,
    arguments: Mapping[str, Any],
    make: Callable[[Mapping[str, Any], str | None], NodeOptions],
) -> Any:
    """Return ``node`` marked with the options of one decorator; for `ABSENT`, the function that marks one.

    Args:
        node: The node, or `ABSENT`.
        options: The decorator's TypedDict of options.
        arguments: The options that were given. ``nodes`` and ``exclude`` choose among the nodes of a graph.
        make: Makes the node's options of the other arguments and the node's id.

    Raises:
        TypeError: If an option does not exist.
        StreamingConfigError: If ``nodes`` or ``exclude`` is no list of names, or the decorated object is no graph.
    """
    check_names(options, arguments)
    own = dict(arguments)
    node_id, nodes, exclude = own.pop("node_id", None), own.pop("nodes", None), own.pop("exclude", ())
    marked = make(own, node_id)
    chosen, left_out = None if nodes is None else _names("nodes", nodes), _names("exclude", exclude)

    def apply(node: Any) -> Any:
        if is_graph(node):
            return decorate_graph(node, Selection(marked, chosen, left_out))
        if chosen is not None or left_out:
            raise StreamingConfigError(
                f"nodes and exclude choose among the nodes of a compiled graph, and this is none: {node!r:.100}"
            )
        return mark(node, marked)

    return apply if node is ABSENT else apply(node)


def _names(what: str, values: Sequence[str]) -> tuple[str, ...]:
    listed: Any = values
    if isinstance(listed, str) or not all(isinstance(each, str) and each for each in listed):
        raise StreamingConfigError(f"{what} is a list of names of nodes, not {values!r:.100}")
    return tuple(values)


def mark(node: Node, options: NodeOptions, name: str | None = None) -> Node:
    """Return ``node`` with ``options`` added to those it has.

    Args:
        node: The node, or what holds its function: a ``staticmethod``, a ``@task``, a tool.
        options: The options of one decorator.
        name: The node's name; its own when not given.

    Raises:
        NotANodeError: If ``node`` can be no node.
    """
    changed = replace_held_function(node, lambda held, holder: mark(held, options, holder or name))
    if changed is not None:
        return cast("Node", changed)
    existing = streaming_options(node)
    if existing is not None:
        options = existing.merged(options)
    wrapped = wrap_node(unwrap_node(node), options, name)
    if not isinstance(wrapped, StreamedRunnable):
        setattr(wrapped, _OPTIONS, options)
    return cast("Node", wrapped)


def streaming_options(node: object) -> NodeOptions | None:
    """Return the options of the decorators on ``node``; None when it has none.

    ``options.token``, ``options.event`` and ``options.progress`` are None for a decorator that was not applied. Of the
    others, ``chosen`` has the options that the decorator sets.
    """
    held = get_held_function(node)
    if held is not None:
        return streaming_options(held)
    plan = get_graph_plan(node)
    if plan is not None:
        return cast("NodeOptions", plan.for_graph)
    found = node.plan if isinstance(node, StreamedRunnable) else getattr(node, _OPTIONS, None)
    return found if isinstance(found, NodeOptions) else None
