"""Whose text a caller wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from typing_extensions import TypedDict

from lg_streaming.events import Position, Scope
from lg_streaming.filters import UpdateFilter
from lg_streaming.texts import MessageText, TextAssembly

__all__ = ["MessageText", "TextAssembly", "TextOptions", "split_text_options"]


class TextOptions(TypedDict, total=False):
    """What `StreamClient.text` and `texts` take beside the execution."""

    agent: str | None
    """Only what this agent says: a name, or a glob."""
    node: str | None
    """Only what this node says: its id in the graph, or a glob."""
    namespace: str | None
    """Only what is said at this node path: `supervisor/researcher/model`, or a glob such as `supervisor/**`."""
    after: Position | str | None
    """Begin behind this position."""
    until: Literal["interrupted"] | None
    """`"interrupted"`: do not wait while the run waits for a human, but return what there is."""
    timeout: float | None
    """Seconds to wait in all; None: no limit."""


def split_text_options(options: TextOptions) -> tuple[dict[str, Any], Callable[[MessageText], bool]]:
    """What to subscribe with, and which messages are wanted of what was assembled.

    The server filters nothing of this: what takes a text back may come from a node around.

    Raises:
        BadRequestError: A name cannot be used.
        TypeError: There is no such option.
    """
    unknown = next((name for name in options if name not in TextOptions.__annotations__), None)
    if unknown is not None:
        raise TypeError(f"text() has no argument {unknown!r}: use one of {', '.join(TextOptions.__annotations__)}")
    names = {"agent_types": "agent", "node_ids": "node", "namespaces": "namespace"}
    given: dict[str, Any] = dict(options)
    conditions: dict[str, Any] = {
        field: [given.pop(name)] for field, name in names.items() if given.get(name) is not None
    }
    whose = UpdateFilter.of(**conditions)
    read = {name: value for name, value in given.items() if name not in names.values()}

    def is_wanted(message: MessageText) -> bool:
        scope = Scope(node_id=message.node_id, namespace=message.namespace, agent_type=message.agent_type)
        return whose.accepts("token", scope, "medium")

    return read, is_wanted
