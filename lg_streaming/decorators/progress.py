"""``@stream_progress``: how far the node is."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from lg_streaming.decorators.marking import Node, mark
from lg_streaming.pipeline import NodeOptions, ProgressOptions
from lg_streaming.pipeline.options import refuse_unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from lg_streaming.pipeline import ProgressFormat
    from lg_streaming.pipeline.progress import Granularity, ProgressCalculator

__all__ = ["stream_progress"]


@overload
def stream_progress(node: Node, /) -> Node: ...


@overload
def stream_progress(
    *,
    enabled: bool = True,
    interval: float | None = None,
    granularity: Granularity | None = None,
    include_eta: bool = True,
    include_metrics: bool = False,
    milestones: Sequence[float] | None = None,
    calculator: ProgressCalculator | None = None,
    format: ProgressFormat | Mapping[str, Any] | None = None,
    node_id: str | None = None,
) -> Callable[[Node], Node]: ...


def stream_progress(
    node: Node | None = None,
    /,
    *,
    enabled: bool = True,
    interval: float | None = None,
    granularity: Granularity | None = None,
    include_eta: bool = True,
    include_metrics: bool = False,
    milestones: Sequence[float] | None = None,
    calculator: ProgressCalculator | None = None,
    format: ProgressFormat | Mapping[str, Any] | None = None,
    node_id: str | None = None,
) -> Node | Callable[[Node], Node]:
    """Streams the node's progress: 0 % at its start, what it reports, and how it ended.

    Used like :func:`~lg_streaming.stream_token`. Inside the node, report with
    ``current_progress().update(current, total)``. A node that fails keeps its last percentage, with the status
    ``failed``.

    Args:
        node: The node, when used without parentheses.
        enabled: False leaves the node as it is.
        interval: Not available in this version; every update leaves at once.
        granularity: Not available in this version.
        include_eta: Whether updates say how many seconds are left (``eta_s``).
        include_metrics: Whether updates say the seconds so far (``elapsed_s``) and units per second (``rate``).
        milestones: Not available in this version.
        calculator: Not available in this version.
        format: Not available in this version.
        node_id: The node's id in updates; its name in the graph when not given.

    Raises:
        OptionNotAvailableError: An option that is not available in this version is set.
    """
    refuse_unavailable(
        "stream_progress",
        interval=interval,
        granularity=granularity,
        milestones=milestones,
        calculator=calculator,
        format=format,
    )
    progress = ProgressOptions(enabled=enabled, include_eta=include_eta, include_metrics=include_metrics)
    options = NodeOptions(progress=progress, node_id=node_id)
    return mark(node, options) if node is not None else lambda node: mark(node, options)
