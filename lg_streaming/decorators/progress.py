"""``@stream_progress``: how far the node is."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from lg_streaming.decorators.marking import ABSENT, Node, decorate
from lg_streaming.pipeline import NodeOptions, ProgressOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from lg_streaming.pipeline import ProgressFormat
    from lg_streaming.pipeline.progress import Granularity, ProgressCalculator

__all__ = ["stream_progress"]


@overload
def stream_progress(
    node: Node,
    /,
    *,
    enabled: bool | None = None,
    interval: float | None = None,
    granularity: Granularity | None = None,
    include_eta: bool | None = None,
    include_metrics: bool | None = None,
    milestones: Sequence[float] | None = None,
    calculator: ProgressCalculator | None = None,
    format: ProgressFormat | Mapping[str, Any] | None = None,
    node_id: str | None = None,
    nodes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Node: ...


@overload
def stream_progress(
    *,
    enabled: bool | None = None,
    interval: float | None = None,
    granularity: Granularity | None = None,
    include_eta: bool | None = None,
    include_metrics: bool | None = None,
    milestones: Sequence[float] | None = None,
    calculator: ProgressCalculator | None = None,
    format: ProgressFormat | Mapping[str, Any] | None = None,
    node_id: str | None = None,
    nodes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Callable[[Node], Node]: ...


def stream_progress(
    node: Any = ABSENT,
    /,
    *,
    enabled: bool | None = None,
    interval: float | None = None,
    granularity: Granularity | None = None,
    include_eta: bool | None = None,
    include_metrics: bool | None = None,
    milestones: Sequence[float] | None = None,
    calculator: ProgressCalculator | None = None,
    format: ProgressFormat | Mapping[str, Any] | None = None,
    node_id: str | None = None,
    nodes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Any:
    """Streams the node's progress: 0 % at its start, what it reports, milestones, and how it ended.

    Used like `stream_token`. Inside the node, report with
    ``current_progress().update(current, total)``, or loop over ``current_progress().track(items)``. The percentage
    never goes back. A node that fails keeps what it had reached, with the status ``failed`` and the ``error``.

    What is not given here is as ``settings.progress_defaults`` says, or ``hub.configure`` for one execution, also
    while the node runs.

    Args:
        node: The node, or a compiled graph, whose nodes are then all decorated, subgraphs and agents included.
        enabled: False leaves the node as it is. True unless the settings say otherwise.
        interval: Seconds between two reports, 0 to 3600; 1.0. A report that comes too early is held, and leaves when
            the interval or the node is over, unless a newer one took its place. 0 %, milestones and 100 % never wait.
        granularity: ``"fine"`` is the default: reports, at most one each interval. ``"coarse"``: only the start,
            milestones and the end. ``"detailed"``: every report, whatever the interval.
        include_eta: Whether updates say how many seconds are left (``eta_s``), once that can be estimated; True.
        include_metrics: Whether updates say the seconds so far (``elapsed_s``) and units per second (``rate``); False.
        milestones: Percentages, above 0 and up to 100, at most 100 of them; none. Each makes one ``milestone`` update
            ``{milestone, progress}`` when the node gets there, before the ``progress`` update that says so.
        calculator: ``calculator(current, total, metadata) -> percent``, used instead of ``current / total``; limited
            to 0 … 100. One that raises, or returns no number, makes one ``error`` update, and the plain percentage
            is used in its place.
        format: Which fields updates have, see `ProgressFormat`: ``show_percentage``
            (True), ``show_current``, ``show_total``, ``show_rate`` (False), ``precision`` (1 decimal).
        node_id: The node's id in updates; its name in the graph when not given.
        nodes: Of a graph, the nodes to decorate: names, or paths such as ``agent/model``, as globs; all when not given.
        exclude: Of a graph, the nodes to leave out, in the same form.

    Raises:
        StreamingConfigError: A value cannot be used.
    """
    progress = ProgressOptions.of(
        enabled=enabled,
        interval=interval,
        granularity=granularity,
        include_eta=include_eta,
        include_metrics=include_metrics,
        milestones=milestones,
        calculator=calculator,
        format=format,
    )
    options = NodeOptions(progress=progress, node_id=node_id)
    return decorate(node, options, nodes, exclude)
