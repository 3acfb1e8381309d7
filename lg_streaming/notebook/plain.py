"""A run as lines of text, where no HTML is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lg_streaming.folding.formatting import format_seconds, full_label, question, run_state, summary

if TYPE_CHECKING:
    from lg_streaming.folding.run_view import NodeView, RunView

__all__ = ["PlainProgress", "render_text"]

_MOST_NODES: Final = 40
_ENDED: Final = frozenset({"complete", "failed", "cancelled", "abandoned"})


def render_text(execution_id: str, view: RunView | None) -> str:
    """Return a run in lines: its state, its nodes, its open questions."""
    if view is None:
        return f"<run of {execution_id!r}: no updates>"
    head = summary(view) if view.state in _ENDED else f"Run {run_state(view)}: {view.updates:,} updates."
    nodes = list(view.nodes)
    lines = [f"{execution_id}: {head}", *(f"  {_line(each)}" for each in nodes[-_MOST_NODES:])]
    if len(nodes) > _MOST_NODES:
        lines.insert(1, f"  … {len(nodes) - _MOST_NODES} earlier nodes")
    lines += [f"  ? {question(each)}" for each in view.prompts if each.state == "open"]
    return "\n".join(lines)


def _line(node: NodeView) -> str:
    took = f", {format_seconds(node.duration)}" if node.state != "running" else ""
    return f"{full_label(node)}: {node.state}{took}"


class PlainProgress:
    """Progress of a run, one line for each change of a node's state.

    Args:
        write: Writes a line.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._shown: dict[int, str] = {}

    def show(self, view: RunView) -> None:
        """Write what has changed."""
        for node in view.nodes:
            if self._shown.get(id(node)) != node.state:
                self._shown[id(node)] = node.state
                self._write(_line(node))
