"""``@stream_all``: the three decorators as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast, overload

from lg_streaming.decorators.event import stream_event
from lg_streaming.decorators.marking import ABSENT, Node
from lg_streaming.decorators.progress import stream_progress
from lg_streaming.decorators.token import stream_token
from lg_streaming.errors import StreamingConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["stream_all"]


@overload
def stream_all(node: Node, /, *, nodes: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> Node: ...


@overload
def stream_all(
    *,
    token: Mapping[str, Any] | bool = False,
    event: Mapping[str, Any] | bool = False,
    progress: Mapping[str, Any] | bool = False,
    nodes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Callable[[Node], Node]: ...


def stream_all(
    node: Any = ABSENT,
    /,
    *,
    token: Mapping[str, Any] | bool = False,
    event: Mapping[str, Any] | bool = False,
    progress: Mapping[str, Any] | bool = False,
    nodes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Any:
    """Apply several decorators as one: each that is given, with its options, or with ``True`` for its defaults.

    Without parentheses all three are applied with their defaults; ``@stream_all()`` applies none.

    Args:
        node: The node, when used without parentheses.
        token: Options of `stream_token`.
        event: Options of `stream_event`.
        progress: Options of `stream_progress`.
        nodes: Of a graph: the names or paths of the nodes to capture, as globs; None for all.
        exclude: Of a graph: the names or paths of nodes to leave out.

    Raises:
        StreamingConfigError: If an option has a value that cannot be used, or is for graphs only.
        TypeError: If an option does not exist.
    """
    if node is not ABSENT:
        token = event = progress = True
    chosen: dict[str, Any] = {} if nodes is None and not exclude else {"nodes": nodes, "exclude": exclude}
    decorators: list[Callable[[Any], Any]] = [
        decorator(**_options(name, value), **chosen)
        for decorator, name, value in (
            (stream_progress, "progress", progress),
            (stream_event, "event", event),
            (stream_token, "token", token),
        )
        if value is not False
    ]

    def apply(node: Any) -> Any:
        for decorator in decorators:
            node = decorator(node)
        return node

    return apply(node) if node is not ABSENT else apply


def _options(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if value is not True:
        raise StreamingConfigError(f"{name} is a mapping of options, True or False, not {value!r:.100}")
    return {}
