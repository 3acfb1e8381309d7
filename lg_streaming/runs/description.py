"""Description of a graph for people who watch its runs: nodes with those of subgraphs, and edges with their labels."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, cast

from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel

from lg_streaming.runs.structure import Edge, labelled_edges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lg_streaming.runs.registry import AnyGraph

__all__ = ["describe_graph"]

_START: Final = "__start__"
_END: Final = "__end__"
_SEPARATOR: Final = ":"
"""Separator of the names in the id of an inner node; LangGraph allows it in no name."""
_MAX_DEPTH: Final = 8
_MAX_NODES: Final = 2_000

_known: Final[weakref.WeakKeyDictionary[AnyGraph, dict[str, Any]]] = weakref.WeakKeyDictionary()


def describe_graph(graph: AnyGraph) -> dict[str, Any]:
    """Return ``{nodes, edges, functional}`` of a compiled graph, which is read once.

    It reads the graph's builder, and calls no code of the application as ``graph.get_graph()`` does. A graph without a
    builder, such as an ``@entrypoint``, is functional: its tasks are known only when they begin.
    """
    found = _known.get(graph)
    if found is None:
        drawing = _Description()
        drawing.add(graph, "", frozenset())
        functional = not isinstance(graph, CompiledStateGraph)
        found = _known[graph] = {"nodes": drawing.nodes, "edges": drawing.edges, "functional": functional}
    return found


class _Description:
    """Nodes and edges that were found so far."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []

    def add(self, graph: AnyGraph, parent: str, around: frozenset[int]) -> None:
        """Add the nodes of a graph, inside the node ``parent``; an empty one is outside of all."""
        names = [each for each in graph.nodes if each != _START]
        edges = dict.fromkeys(_edges(graph, names))
        inside = f"{parent}{_SEPARATOR}" if parent else ""
        self._node(inside, _START, "start", parent)
        subgraphs: dict[str, Any] = dict(cast("Any", graph).get_subgraphs())
        for name in names:
            inner = subgraphs.get(name)
            self._node(inside, name, "node" if inner is None else "subgraph", parent)
            if (
                isinstance(inner, Pregel)
                and id(cast("object", inner)) not in around
                and len(around) < _MAX_DEPTH
                and len(self.nodes) < _MAX_NODES
            ):
                self.add(cast("Any", inner), f"{inside}{name}", around | {id(graph)})
        if any(edge.target == _END for edge, _ in edges):
            self._node(inside, _END, "end", parent)
        for (source, target, conditional), label in edges:
            edge = {"source": f"{inside}{source}", "target": f"{inside}{target}", "conditional": conditional}
            self.edges.append(edge if label is None else {**edge, "label": label})

    def _node(self, inside: str, name: str, kind: str, parent: str) -> None:
        node = {"id": f"{inside}{name}", "name": name, "kind": kind}
        self.nodes.append({**node, "parent": parent} if parent else node)


def _edges(graph: AnyGraph, names: list[str]) -> Iterator[tuple[Edge, str | None]]:
    if isinstance(graph, CompiledStateGraph):
        yield from labelled_edges(graph.builder)
    elif len(names) == 1:  # an @entrypoint
        yield Edge(_START, names[0]), None
        yield Edge(names[0], _END), None
