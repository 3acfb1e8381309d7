"""``@stream_progress``: the progress of the node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

from lg_streaming.decorators.marking import ABSENT, Node, NodeSelection, decorate
from lg_streaming.pipeline import NodeOptions, ProgressFormat, ProgressOptions
from lg_streaming.pipeline.progress_options import Granularity, ProgressCalculator

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StreamProgressOptions", "stream_progress"]


class StreamProgressOptions(NodeSelection, total=False):
    """The options of `stream_progress`."""

    enabled: bool | None
    """False leaves the node as it is. True, unless the settings have another value."""
    interval: float | None
    """Seconds between two reports, 0 to 3600; 1.0. A report that comes too early is held, and leaves when the interval
    or the node has ended, unless a newer one took its place. 0 %, milestones and 100 % never wait."""
    granularity: Granularity | None
    """``"fine"`` is the default: reports, at most one each interval. ``"coarse"``: only the start, milestones and the
    end. ``"detailed"``: every report, in any interval."""
    include_eta: bool | None
    """True adds the seconds that are left (``eta_s``), once they can be estimated; True."""
    include_metrics: bool | None
    """True adds the seconds so far (``elapsed_s``) and units per second (``rate``); False."""
    milestones: Sequence[float] | None
    """Percentages, above 0 and up to 100, at most 100 of them; none. Each makes one ``milestone`` update ``{milestone,
    progress}`` when the node gets there, before the ``progress`` update of that percentage."""
    calculator: ProgressCalculator | None
    """``calculator(current, total, metadata) -> percent``, used instead of ``current / total``; limited to 0 … 100. One
    that raises, or returns no number, makes one ``error`` update, and the plain percentage is used in its place."""
    format: ProgressFormat | Mapping[str, Any] | None
    """The fields of updates, see `ProgressFormat`: ``show_percentage`` (True), ``show_current``, ``show_total``,
    ``show_rate`` (False), ``precision`` (1 decimal)."""


@overload
def stream_progress(node: Node, /, **options: Unpack[StreamProgressOptions]) -> Node: ...


@overload
def stream_progress(**options: Unpack[StreamProgressOptions]) -> Callable[[Node], Node]: ...


def stream_progress(node: Any = ABSENT, /, **options: Unpack[StreamProgressOptions]) -> Any:
    """Stream the node's progress: 0 % at its start, its reports, milestones, and its end.

    Used like `stream_token`. Inside the node, report with ``current_progress().update(current, total)``, or loop over
    ``current_progress().track(items)``. The percentage never goes back. A node that fails keeps the percentage that it
    had reached, with the status ``failed`` and the ``error``.

    An option that is left out is taken from the execution (``hub.configure``), else from
    ``settings.progress_defaults``, also while the node runs.

    Args:
        node: The node, or a compiled graph, whose nodes are then all decorated, subgraphs and agents included.

    Raises:
        StreamingConfigError: If an option has a value that cannot be used.
        TypeError: If an option does not exist.
    """
    return decorate(node, StreamProgressOptions, options, _from_arguments)


def _from_arguments(options: Mapping[str, Any], node_id: str | None) -> NodeOptions:
    return NodeOptions(progress=ProgressOptions.from_arguments(**options), node_id=node_id)
