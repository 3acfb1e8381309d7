"""Options that select text of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from typing_extensions import TypedDict

from lg_streaming.events import Position, Scope
from lg_streaming.filters import UpdateFilter
from lg_streaming.texts import MessageText, TextAssembly

__all__ = ["MessageText", "TextAssembly", "TextOptions", "split_text_options"]


class TextOptions(TypedDict, total=False):
    """Options of `StreamClient.text` and `texts`."""

    agent: str | None
    """Only text of this agent: a name or a glob."""
    node: str | None
    """Only text of this node: its id in the graph, or a glob."""
    namespace: str | None
    """Only text at this node path: `supervisor/researcher/model`, or a glob such as `supervisor/**`."""
    after: Position | str | None
    """Begin after this position."""
    until: Literal["interrupted"] | None
    """`"interrupted"`: return the text so far when the run waits for a human."""
    timeout: float | None
    """Seconds to wait for the end of the run; None: no limit."""


def split_text_options(options: TextOptions) -> tuple[dict[str, Any], Callable[[MessageText], bool]]:
    """Split options into those of `subscribe` and a predicate for assembled messages.

    The client filters, not the server: an enclosing node may retract the text of a selected one.

    Raises:
        BadRequestError: If a name is not valid.
        TypeError: If no option has that name.
    """
    unknown = next((name for name in options if name not in TextOptions.__annotations__), None)
    if unknown is not None:
        raise TypeError(f"text() has no argument {unknown!r}: use one of {', '.join(TextOptions.__annotations__)}")
    names = {"agent_types": "agent", "node_ids": "node", "namespaces": "namespace"}
    remaining: dict[str, Any] = dict(options)
    conditions: dict[str, Any] = {
        field: [remaining.pop(name)] for field, name in names.items() if remaining.get(name) is not None
    }
    message_filter = UpdateFilter.of(**conditions)
    subscribe_options = {name: value for name, value in remaining.items() if name not in names.values()}

    def is_selected(message: MessageText) -> bool:
        scope = Scope(node_id=message.node_id, namespace=message.namespace, agent_type=message.agent_type)
        return message_filter.accepts("token", scope, "medium")

    return subscribe_options, is_selected
