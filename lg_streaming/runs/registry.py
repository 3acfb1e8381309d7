"""Graphs that may be started by name."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from langgraph.checkpoint.base import BaseCheckpointSaver

from lg_streaming.capture import is_graph
from lg_streaming.errors import BadRequestError, GraphNotFoundError, StreamingConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from langgraph.pregel import Pregel

__all__ = ["AnyGraph", "GraphRegistry", "checkpointer_of"]

AnyGraph: TypeAlias = "Pregel[Any, Any, Any, Any]"

_LONGEST_NAME: Final = 128
_SHOWN_NAMES: Final = 10


def checkpointer_of(graph: AnyGraph) -> BaseCheckpointSaver[Any] | None:
    """Return the checkpointer of a graph; None without one, as for ``compile(checkpointer=False)`` or ``True``."""
    found = cast("object", graph.checkpointer)
    return cast("BaseCheckpointSaver[Any]", found) if isinstance(found, BaseCheckpointSaver) else None


class GraphRegistry(MutableMapping[str, AnyGraph]):
    """Graphs by name: ``streaming.graphs["research"] = graph``. Only these are started over the network.

    A graph is a compiled `StateGraph`, a functional ``@entrypoint``, or an agent of ``create_agent``. A name has 1 to
    128 printable characters without spaces.
    """

    def __init__(self) -> None:
        self._graphs: dict[str, AnyGraph] = {}
        self.on_register: Callable[[], None] = lambda: None
        """Called after each registration of a graph."""

    def __getitem__(self, name: str) -> AnyGraph:
        """Return the graph of a name. Raises `GraphNotFoundError`, a KeyError, without one."""
        try:
            return self._graphs[name]
        except KeyError:
            known = ", ".join(list(self._graphs)[:_SHOWN_NAMES]) or "none"
            raise GraphNotFoundError(
                f"no graph is named {name!r:.80}: set streaming.graphs[name] = graph; registered here: {known:.500}",
                details={"graph": str(name)[:80]},
            ) from None

    def __setitem__(self, name: str, graph: AnyGraph) -> None:
        """Register a graph, in place of an earlier one of this name. Raises StreamingConfigError for other objects."""
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or " " in name:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StreamingConfigError(
                f"a graph's name has 1 to {_LONGEST_NAME} printable characters without spaces, not {name!r:.80}"
            )
        if not is_graph(graph):
            raise StreamingConfigError(
                f"{name!r} is a {type(graph).__name__}, not a compiled graph: call compile() of a StateGraph first"
            )
        self._graphs[name] = graph
        self.on_register()

    def __delitem__(self, name: str) -> None:
        """Remove a graph. Runs of it go on."""
        self[name]
        del self._graphs[name]

    def __iter__(self) -> Iterator[str]:
        """Return the names, in the order of their registration."""
        return iter(tuple(self._graphs))

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self._graphs)

    def __contains__(self, name: object) -> bool:
        """Return whether a graph has this name."""
        return name in self._graphs

    def find(self, graph: AnyGraph | str) -> tuple[str, AnyGraph, bool]:
        """Return name, graph, and whether it is registered. A graph without a name here has its own (`get_name`).

        Raises:
            GraphNotFoundError: If no graph has this name.
            BadRequestError: If ``graph`` is neither a name nor a compiled graph.
        """
        if isinstance(graph, str):
            return graph, self[graph], True
        if not is_graph(graph):
            raise BadRequestError(
                f"a run starts a compiled graph or a registered name, not {type(graph).__name__}: call compile() first"
            )
        for name, registered in self._graphs.items():
            if registered is graph:
                return name, graph, True
        return graph.get_name(), graph, False
