"""Assemble the texts of messages from their pieces, by the rules of the wire's page on text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.events import node_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.events import StreamMetadata, StreamUpdate

__all__ = ["TEXT_EVENTS", "MessageText", "TextAssembly"]

TEXT_EVENTS: Final = (
    "token",
    "thinking",
    "llm_error",
    "node_start",
    "node_complete",
    "node_error",
    "node_interrupted",
)
"""Types that a reader of text alone needs: those that hold text, and those that void text."""

_PIECES: Final = frozenset({"token", "thinking"})
_NODE_ENDS: Final = frozenset({"node_complete", "node_error", "node_interrupted"})

_Place = tuple[str | None, str]
"""Run, and the namespace in it, or the node's id if there is no namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageText:
    """Message of a model: its text so far, and its place in the run."""

    message_id: str | None
    text: str
    thinking: str
    """Reasoning of the model, if it shows any."""
    agent_type: str | None
    """Agent, by its name."""
    node_id: str | None
    namespace: str | None
    """LangGraph's checkpoint namespace of the node."""
    run_id: str | None
    attempt: int
    """Attempt of its node: 1, 2, …"""

    @property
    def path(self) -> str:
        """Names of its nodes from the outermost inwards, such as `supervisor/researcher/model`; see `node_path`."""
        return node_path(self.namespace) if self.namespace else (self.node_id or "")


@dataclass(slots=True)
class _Entry:
    place: _Place
    message_id: str | None
    metadata: StreamMetadata
    attempt: int | None
    settled: bool = False
    """True once a later visit of its node has begun, which does not void it."""
    pieces: dict[str, list[str]] = field(default_factory=lambda: {"token": [], "thinking": []})


class TextAssembly:
    """Texts of messages, in the order in which they began. `add` takes all updates, in order.

    - `llm_error` with a `message_id` voids that message: the model call failed after it had sent text.
    - An update of a node's next attempt voids the text that the node itself sent in earlier attempts. Later updates of
      an earlier attempt are ignored.
    - `node_start` voids all text sent inside the node before, unless its last attempt ended with `node_interrupted`.
      An agent that is resumed keeps the text of the nodes that had finished inside it.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._open: dict[tuple[_Place, str | None], _Entry] = {}
        self._attempts: dict[_Place, int] = {}
        self._interrupted: set[_Place] = set()
        self._epoch: str | None = None

    def add(self, update: StreamUpdate) -> None:
        """Add an update. A new epoch of the log clears everything."""
        metadata, type = update.metadata, update.type  # noqa: A001
        if type == "gap":
            return
        if self._epoch != metadata.epoch:
            self.clear()
            self._epoch = metadata.epoch
        place = (metadata.run_id, metadata.namespace or metadata.node_id or "")
        if type == "node_start":
            self._start(place, metadata)
        elif not self._is_current(place, metadata.attempt):
            return
        elif type in _PIECES:
            self._piece(place, type, update.data, metadata)
        elif type == "llm_error":
            self._void(place, _message_id(update.data, metadata))
        elif type in _NODE_ENDS:
            (self._interrupted.add if type == "node_interrupted" else self._interrupted.discard)(place)

    def clear(self) -> None:
        """Remove everything."""
        self.__init__()

    @property
    def messages(self) -> list[MessageText]:
        """All messages, in the order in which they began."""
        return [
            MessageText(
                message_id=entry.message_id,
                text="".join(entry.pieces["token"]),
                thinking="".join(entry.pieces["thinking"]),
                agent_type=entry.metadata.agent_type,
                node_id=entry.metadata.node_id,
                namespace=entry.metadata.namespace,
                run_id=entry.metadata.run_id,
                attempt=entry.attempt or 1,
            )
            for entry in self._entries
        ]

    @property
    def text(self) -> str:
        """All texts joined, in the order in which they began."""
        return "".join(piece for entry in self._entries for piece in entry.pieces["token"])

    def _piece(self, place: _Place, type: str, data: object, metadata: StreamMetadata) -> None:
        content = _members(data).get("content")
        if not isinstance(content, str):
            return
        message_id = _message_id(data, metadata)
        entry = self._open.get((place, message_id))
        if entry is None:
            entry = self._open[place, message_id] = _Entry(place, message_id, metadata, metadata.attempt)
            self._entries.append(entry)
        entry.pieces[type].append(content)

    def _is_current(self, place: _Place, attempt: int | None) -> bool:
        if attempt is None:
            return True
        current = self._attempts.get(place, attempt)
        if attempt > current:
            self._drop(lambda entry: entry.place == place and not entry.settled and (entry.attempt or 1) < attempt)
        self._attempts[place] = max(current, attempt)
        return attempt >= current

    def _start(self, place: _Place, metadata: StreamMetadata) -> None:
        attempt = metadata.attempt or 1
        current = self._attempts.get(place)
        if current is not None and attempt <= current:
            self._settle(place)
            self._attempts[place] = attempt
        else:
            self._is_current(place, attempt)
        if place not in self._interrupted and metadata.namespace:
            run, namespace = place
            self._drop(lambda entry: entry.place[0] == run and is_below(entry.place[1], namespace))
            for inner in [one for one in self._attempts if one[0] == run and is_below(one[1], namespace)]:
                del self._attempts[inner]
                self._interrupted.discard(inner)
        self._interrupted.discard(place)

    def _settle(self, place: _Place) -> None:
        """Begin another visit of the node, whose text belongs to other messages."""
        for key, entry in list(self._open.items()):
            if entry.place == place:
                entry.settled = True
                del self._open[key]

    def _void(self, place: _Place, message_id: str | None) -> None:
        if message_id is None:
            return
        same = [entry for entry in self._open.values() if (entry.place[0], entry.message_id) == (place[0], message_id)]
        void = [entry for entry in same if entry.place == place] or same
        self._drop(lambda entry: any(entry is one for one in void))

    def _drop(self, goes: Callable[[_Entry], bool]) -> None:
        self._entries = [entry for entry in self._entries if not goes(entry)]
        self._open = {key: entry for key, entry in self._open.items() if not goes(entry)}


def namespaces_above(namespace: str) -> list[str]:
    """Return the namespaces that a namespace lies in, from the outermost inwards."""
    return [namespace[:index] for index, letter in enumerate(namespace) if letter in "|/"]


def is_below(namespace: str, other: str) -> bool:
    """Return whether a namespace lies inside another one."""
    return len(namespace) > len(other) and namespace.startswith(other) and namespace[len(other)] in "|/"


def _members(data: object) -> dict[str, Any]:
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def _message_id(data: object, metadata: StreamMetadata) -> str | None:
    message_id = _members(data).get("message_id")
    return message_id if isinstance(message_id, str) else metadata.message_id
