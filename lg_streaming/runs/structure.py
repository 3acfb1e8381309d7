"""Structure of a graph: the nodes that may follow, for a run that has no earlier runs to compare with."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from langgraph.graph import StateGraph

__all__ = ["Edge", "GraphStructure", "labelled_edges"]

_START: Final = "__start__"
_END: Final = "__end__"


class Edge(NamedTuple):
    """Edge of a graph."""

    source: str
    target: str
    conditional: bool = False
    """True for one of several alternatives, which a router chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphStructure:
    """Nodes and edges of a graph. A subgraph is one node.

    The estimates leave out edges that lead back to an earlier node. So a loop counts as one round until it begins
    another one. The alternatives of a router are equally likely.
    """

    nodes: tuple[str, ...] = ()
    edges: tuple[Edge, ...] = ()
    is_functional: bool = False
    """True for an ``@entrypoint``, whose tasks count as its nodes and are known only when they begin."""
    _order: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """Nodes in the order of the edges that do not lead back."""
    _next: Mapping[str, Sequence[Edge]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        order, forward = _sort(self.edges)
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_next", forward)

    @classmethod
    def of(cls, graph: Pregel[Any, Any, Any, Any]) -> GraphStructure:
        """Return the structure of a compiled graph.

        It reads the graph's builder. ``graph.get_graph()`` calls code of the application, and takes 100 ms for 200
        nodes.
        """
        if not isinstance(graph, CompiledStateGraph):
            return cls(nodes=tuple(graph.nodes), is_functional=True)
        builder: StateGraph[Any, Any, Any, Any] = graph.builder
        return cls(nodes=tuple(builder.nodes), edges=tuple(sorted({edge for edge, _ in labelled_edges(builder)})))

    @property
    def fingerprint(self) -> str:
        """Hash of nodes and edges: a changed graph has another one."""
        parts = [*sorted(self.nodes), *(f"{each.source}>{each.target}" for each in sorted(self.edges))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def expected_after(self, nodes: Iterable[str]) -> float | None:
        """Return the expected number of nodes after these, which run or have just ended; no node for the beginning.

        It is the sum of the nodes' probabilities, as if routers chose independently of each other. None where the
        structure does not show it.
        """
        begun = set(nodes) or {_START}
        if self.is_functional or not begun <= self._next.keys():
            return None
        missed = dict.fromkeys(self._order, 1.0)  # probability that no edge to the node is taken
        expected = 0.0
        for node in self._order:
            chance = 1.0 if node in begun else 1.0 - missed[node]
            if node not in begun and node != _END:
                expected += chance
            edges = self._next[node]
            alternatives = sum(each.conditional for each in edges)
            for each in edges:
                missed[each.target] *= 1.0 - (chance / alternatives if each.conditional else chance)
        return expected


def labelled_edges(builder: StateGraph[Any, Any, Any, Any]) -> Iterator[tuple[Edge, str | None]]:
    """Return the edges with the answers of their routers; None for an edge without an own answer."""
    for source, target in sorted(builder.edges):
        yield Edge(source, target), None
    for sources, target in sorted(builder.waiting_edges):
        yield from ((Edge(source, target), None) for source in sources)
    for source, branches in builder.branches.items():
        for branch in branches.values():
            ends: Mapping[Any, str] = (
                branch.ends if branch.ends is not None else {each: each for each in (*builder.nodes, _END)}
            )
            for answer, target in ends.items():
                yield Edge(source, target, conditional=True), _label(answer, target)
    for source, node in builder.nodes.items():
        labels = node.ends if isinstance(node.ends, dict) else dict.fromkeys(node.ends or ())
        for target, label in labels.items():
            yield Edge(source, target, conditional=True), _label(label, target)


def _label(answer: object, target: str) -> str | None:
    return None if answer is None or str(answer) == target else str(answer)


def _sort(edges: Sequence[Edge]) -> tuple[tuple[str, ...], Mapping[str, Sequence[Edge]]]:
    """Return the nodes in topological order, and the edges of each that do not lead back, by a depth-first search.

    Nodes that no edge reaches from the start come first, as further roots.
    """
    all_next = defaultdict[str, list[Edge]](list)
    for each in edges:
        all_next[each.source].append(each)
    forward: dict[str, list[Edge]] = {}
    ended = list[str]()
    open_nodes = set[str]()
    for root in (_START, *list(all_next)):
        if root in forward:
            continue
        forward[root] = []
        open_nodes.add(root)
        stack = [(root, iter(all_next.get(root, ())))]
        while stack:
            node, rest = stack[-1]
            edge = next(rest, None)
            if edge is None:
                stack.pop()
                open_nodes.discard(node)
                ended.append(node)
            elif edge.target not in open_nodes:
                forward[node].append(edge)
                if edge.target not in forward:
                    forward[edge.target] = []
                    open_nodes.add(edge.target)
                    stack.append((edge.target, iter(all_next.get(edge.target, ()))))
    return tuple(reversed(ended)), forward
