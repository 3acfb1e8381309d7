"""The nodes of a graph to capture, and their options."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from lg_streaming.emitter import UpdatePipeline

if TYPE_CHECKING:
    from lg_streaming.emitter import ScopedPublisher
    from lg_streaming.events import Scope
    from lg_streaming.publisher import Publisher

__all__ = ["GraphPlan", "NodePlan", "NodeSink", "Selection", "configured_plan"]


class NodeSink(UpdatePipeline, Protocol):
    """The pipeline of one try of a node."""

    @property
    def progress(self) -> object:
        """The tracker of the node's progress."""
        ...

    def put(self, type: str, data: dict[str, Any], scope: Scope) -> bool:
        """Accept an event of the node, from its ``node_start`` to its end.

        Rarely used data comes in another form. For ``values`` it is ``{state}``. For ``updates`` and ``messages`` it
        is ``{read}``, a function that returns them.

        Returns:
            Whether it is accepted, see `UpdatePipeline`.
        """
        ...

    def release(self) -> None:
        """Publish all buffered updates, before a node or a tool inside begins."""
        ...

    def begin(self) -> None:
        """Begin the progress of a node whose start is published already."""
        ...

    def close(self) -> None:
        """Publish all buffered updates and end, without an end of the node."""
        ...


class NodePlan(Protocol):
    """The options of a decorated node."""

    @property
    def node_id(self) -> str | None:
        """The node's id; None for its name in the graph, or the function's name."""
        ...

    @property
    def listens(self) -> bool:
        """True if models and tools inside the node are captured, which makes models stream."""
        ...

    @property
    def enabled(self) -> bool:
        """True if any option is switched on."""
        ...

    def open(self, output: ScopedPublisher) -> NodeSink:
        """Return the pipeline of one try of the node, which publishes to ``output``."""
        ...

    def merged(self, other: Self) -> Self:
        """Return these options merged with others, which win where both are set."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """One decorator on a graph: its options, and the nodes that they hold for."""

    options: NodePlan
    nodes: tuple[str, ...] | None = None
    """Names or paths of nodes, as globs; None for all nodes."""
    exclude: tuple[str, ...] = ()

    def holds_for(self, name: str, path: str) -> bool:
        """Return whether it holds for the node of this name, at this path of node names (``agent/model``)."""
        chosen = self.nodes is None or any(_matches(each, name, path) for each in self.nodes)
        return chosen and not any(_matches(each, name, path) for each in self.exclude)


def _matches(pattern: str, name: str, path: str) -> bool:
    if "/" not in pattern:
        return fnmatch.fnmatchcase(name, pattern)
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"*/{pattern}")


_MAX_PATHS: Final = 1_024


class GraphPlan:
    """The options of a graph's decorators, or of ``capture="all"``, for each of its nodes at any depth."""

    __slots__ = ("_by_path", "selections")

    def __init__(self, selections: Sequence[Selection]) -> None:
        self.selections: tuple[Selection, ...] = tuple(selections)
        self._by_path: dict[str, NodePlan | None] = {}

    @property
    def for_graph(self) -> NodePlan:
        """The options of the graph itself, where it is a node of another graph."""
        first, *others = self.selections
        options = first.options
        for selection in others:
            options = options.merged(selection.options)
        return options

    def for_node(self, name: str, path: str) -> NodePlan | None:
        """Return the options of a node; None where it is not to be captured."""
        if path in self._by_path:
            return self._by_path[path]
        options: NodePlan | None = None
        for selection in self.selections:
            if selection.holds_for(name, path):
                options = selection.options if options is None else options.merged(selection.options)
        if len(self._by_path) < _MAX_PATHS:
            self._by_path[path] = options
        return options


def configured_plan(publisher: Publisher) -> GraphPlan | None:
    """Return the plan for the nodes of every graph that a module captures, from ``settings.capture``; None: none."""
    plan = publisher.capture_plan
    return plan if isinstance(plan, GraphPlan) else None
