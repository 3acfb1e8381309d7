"""Plans of nodes to capture in addition to decorated ones."""

from __future__ import annotations

from lg_streaming.capture import GraphPlan, Selection
from lg_streaming.errors import StreamingConfigError
from lg_streaming.pipeline import EventOptions, NodeOptions, ProgressOptions, TokenOptions

__all__ = ["plan_of"]


def plan_of(capture: str) -> GraphPlan | None:
    """Return the plan of ``capture``: None for ``"decorated"``, every node with the default options for ``"all"``.

    Raises:
        StreamingConfigError: If ``capture`` is unknown.
    """
    if capture == "decorated":
        return None
    if capture == "all":
        return GraphPlan(
            [Selection(NodeOptions(token=TokenOptions(), event=EventOptions(), progress=ProgressOptions()))]
        )
    raise StreamingConfigError(f"capture is 'decorated' or 'all', not {capture!r:.80}")
