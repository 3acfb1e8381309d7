"""What to capture of a graph's nodes."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from lg_streaming.emitter import UpdatePipeline

if TYPE_CHECKING:
    from lg_streaming.emitter import ScopedPublisher
    from lg_streaming.events import Scope

__all__ = ["GraphPlan", "NodePlan", "NodeSink", "Selection"]


class NodeSink(UpdatePipeline, Protocol):
    """The pipeline of one try of a node."""

    @property
    def progress(self) -> Any:
        """Reports how far the node is."""
        ...

    def put(self, type: str, data: dict[str, Any], scope: Scope) -> bool:
        """Accept one thing that happened in the node, from its ``node_start`` to its end.

        Rarely used data comes as a way to get it: of ``values`` the data is ``{state}``, of ``updates`` and
        ``messages`` ``{read}``, a function that returns them.

        Returns:
            Whether it is accepted, see `UpdatePipeline`.
        """
        ...

    def release(self) -> None:
        """Publishes what is held: something inside the node begins."""
        ...

    def begin(self) -> None:
        """Begins the progress of a node whose start is published already."""
        ...

    def close(self) -> None:
        """Publishes what is held and ends, without an end of the node."""
        ...


class NodePlan(Protocol):
    """What a decorated node asks for."""

    @property
    def node_id(self) -> str | None:
        """The node's id; None for its name in the graph, or the function's name."""
        ...

    @property
    def listens(self) -> bool:
        """Whether it wants to hear the models and tools inside the node, which makes models stream."""
        ...

    @property
    def enabled(self) -> bool:
        """Whether it wants anything at all."""
        ...

    def open(self, output: ScopedPublisher) -> NodeSink:
        """Return the pipeline of one try of the node, which publishes to ``output``."""
        ...

    def merged(self, other: Any) -> Self:
        """These options and others of the same kind; the others win where both are set."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """One decorator on a graph: its options, and the nodes that it holds for."""

    options: NodePlan
    nodes: tuple[str, ...] | None = None
    """Names or paths of nodes, as globs; None for all nodes."""
    exclude: tuple[str, ...] = ()

    def holds_for(self, name: str, path: str) -> bool:
        """Whether it holds for the node of this name, at this path of node names (``agent/model``)."""
        chosen = self.nodes is None or any(_matches(each, name, path) for each in self.nodes)
        return chosen and not any(_matches(each, name, path) for each in self.exclude)


def _matches(pattern: str, name: str, path: str) -> bool:
    if "/" not in pattern:
        return fnmatch.fnmatchcase(name, pattern)
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"*/{pattern}")


_MOST: Final = 1_024


class GraphPlan:
    """What the decorators on a graph ask for, or ``capture="all"``: options for each node of it, at any depth."""

    __slots__ = ("_known", "selections")

    def __init__(self, selections: Sequence[Selection]) -> None:
        self.selections: tuple[Selection, ...] = tuple(selections)
        self._known: dict[str, NodePlan | None] = {}

    @property
    def for_graph(self) -> NodePlan:
        """The options of the graph itself, where it is a node of another graph."""
        first, *others = self.selections
        options = first.options
        for selection in others:
            options = options.merged(selection.options)
        return options

    def for_node(self, name: str, path: str) -> NodePlan | None:
        """The options of a node; None where it is not to be captured."""
        if path in self._known:
            return self._known[path]
        options: NodePlan | None = None
        for selection in self.selections:
            if selection.holds_for(name, path):
                options = selection.options if options is None else options.merged(selection.options)
        if len(self._known) < _MOST:
            self._known[path] = options
        return options
