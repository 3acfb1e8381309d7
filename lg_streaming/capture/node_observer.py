"""Protocol of an observer of the nodes of one graph call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lg_streaming.capture.outcome import Ending

__all__ = ["NodeObserver"]


class NodeObserver(Protocol):
    """Observer of the nodes of a graph call, captured or not, without those of inner graphs.

    The methods are called synchronously, on the thread of the node: they must not block. They are called once for each
    attempt of a node and never for a token. LangChain logs their exceptions.
    """

    def node_started(self, node: str, namespace: str, *, in_node: str | None) -> None:
        """Record the start of an attempt.

        Args:
            node: Name of the node in the graph, or of the task.
            namespace: LangGraph's checkpoint namespace: the same for all attempts, and after an interrupt.
            in_node: Namespace of the node that called a ``@task``; None for a node.
        """
        ...

    def node_ended(self, namespace: str, ending: Ending) -> None:
        """Record the end of an attempt. After ``failed`` another attempt may follow."""
        ...
