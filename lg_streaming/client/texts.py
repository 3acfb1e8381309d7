"""Putting token updates together to texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from lg_streaming.events import StreamUpdate

__all__ = ["Texts"]

_Key = tuple[str | None, str | None, str | None, str | None]


class Texts:
    """The texts of messages, each in the place where it began.

    A node that is tried again starts its texts afresh: what its attempt before wrote is dropped.
    """

    def __init__(self) -> None:
        self._pieces: dict[_Key, list[str]] = {}
        self._attempts: dict[tuple[str | None, str | None, str | None], int] = {}

    def add(self, update: StreamUpdate) -> None:
        """Takes an update into account; all but `token` are passed over."""
        data: object = update.data
        if update.type != "token" or not isinstance(data, dict):
            return
        content = cast("dict[str, Any]", data).get("content")
        if not isinstance(content, str):
            return
        about = update.metadata
        node, attempt = (about.run_id, about.node_id, about.namespace), about.attempt or 1
        if attempt > self._attempts.get(node, attempt):
            for key in [key for key in self._pieces if key[:3] == node]:
                del self._pieces[key]
        self._attempts[node] = max(attempt, self._attempts.get(node, attempt))
        self._pieces.setdefault((*node, about.message_id), []).append(content)

    @property
    def text(self) -> str:
        """All texts, in the order in which they began."""
        return "".join("".join(pieces) for pieces in self._pieces.values())
