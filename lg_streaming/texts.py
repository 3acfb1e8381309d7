"""Putting the pieces of messages together to texts, by the rules of the wire's page on text."""

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
"""The types that a reader needs who wants text only: those that hold text, and those that take text back."""

_PIECES: Final = frozenset({"token", "thinking"})
_NODE_ENDS: Final = frozenset({"node_complete", "node_error", "node_interrupted"})

_Place = tuple[str | None, str]
"""The run, and the namespace in it, or the node's id where there is no namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageText:
    """One message of a model: what it says so far, and where in the run."""

    message_id: str | None
    text: str
    thinking: str
    """The model's reasoning, where it shows it."""
    agent_type: str | None
    """The agent."""
    node_id: str | None
    namespace: str | None
    """LangGraph's checkpoint namespace of the node."""
    run_id: str | None
    attempt: int
    """2 when its node was tried for the second time."""

    @property
    def path(self) -> str:
        """The names of its nodes from the outermost inwards, such as `supervisor/researcher/model`; see `node_path`."""
        return node_path(self.namespace) if self.namespace else (self.node_id or "")


@dataclass(slots=True)
class _Entry:
    place: _Place
    message_id: str | None
    about: StreamMetadata
    attempt: int | None
    settled: bool = False
    """Whether a later visit of its node has begun, which takes nothing of it back."""
    pieces: dict[str, list[str]] = field(default_factory=lambda: {"token": [], "thinking": []})


class TextAssembly:
    """The texts of messages, each in the place where it began. Give it all updates in order; it takes what it needs.

    - `llm_error` with a `message_id` takes that message back: the model call failed after it had sent text.
    - An update of a node's next attempt takes back what the node itself sent in attempts before; what comes of an
      earlier attempt later is passed over.
    - `node_start` takes back all that was sent inside the node before, unless its previous try ended with
      `node_interrupted`: an agent that is resumed keeps the text of what had finished inside it.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._open: dict[tuple[_Place, str | None], _Entry] = {}
        self._attempts: dict[_Place, int] = {}
        self._interrupted: set[_Place] = set()
        self._epoch: str | None = None

    def add(self, update: StreamUpdate) -> None:
        """Takes an update into account. A new life of the log begins with nothing."""
        about, type = update.metadata, update.type  # noqa: A001
        if type == "gap":
            return
        if self._epoch != about.epoch:
            self.clear()
            self._epoch = about.epoch
        place = (about.run_id, about.namespace or about.node_id or "")
        if type == "node_start":
            self._start(place, about)
        elif not self._is_current(place, about.attempt):
            return
        elif type in _PIECES:
            self._piece(place, type, update.data, about)
        elif type == "llm_error":
            self._void(place, _message_id(update.data, about))
        elif type in _NODE_ENDS:
            (self._interrupted.add if type == "node_interrupted" else self._interrupted.discard)(place)

    def clear(self) -> None:
        """Forgets everything."""
        self.__init__()

    @property
    def messages(self) -> list[MessageText]:
        """All messages, in the order in which they began."""
        return [
            MessageText(
                message_id=entry.message_id,
                text="".join(entry.pieces["token"]),
                thinking="".join(entry.pieces["thinking"]),
                agent_type=entry.about.agent_type,
                node_id=entry.about.node_id,
                namespace=entry.about.namespace,
                run_id=entry.about.run_id,
                attempt=entry.attempt or 1,
            )
            for entry in self._entries
        ]

    @property
    def text(self) -> str:
        """All texts joined, in the order in which they began."""
        return "".join(piece for entry in self._entries for piece in entry.pieces["token"])

    def _piece(self, place: _Place, type: str, data: object, about: StreamMetadata) -> None:
        content = _members(data).get("content")
        if not isinstance(content, str):
            return
        message_id = _message_id(data, about)
        entry = self._open.get((place, message_id))
        if entry is None:
            entry = self._open[place, message_id] = _Entry(place, message_id, about, about.attempt)
            self._entries.append(entry)
        entry.pieces[type].append(content)

    def _is_current(self, place: _Place, attempt: int | None) -> bool:
        if attempt is None:
            return True
        known = self._attempts.get(place, attempt)
        if attempt > known:
            self._drop(lambda entry: entry.place == place and not entry.settled and (entry.attempt or 1) < attempt)
        self._attempts[place] = max(known, attempt)
        return attempt >= known

    def _start(self, place: _Place, about: StreamMetadata) -> None:
        attempt = about.attempt or 1
        known = self._attempts.get(place)
        if known is not None and attempt <= known:
            self._settle(place)
            self._attempts[place] = attempt
        else:
            self._is_current(place, attempt)
        if place not in self._interrupted and about.namespace:
            run, namespace = place
            self._drop(lambda entry: entry.place[0] == run and is_below(entry.place[1], namespace))
            for inner in [one for one in self._attempts if one[0] == run and is_below(one[1], namespace)]:
                del self._attempts[inner]
                self._interrupted.discard(inner)
        self._interrupted.discard(place)

    def _settle(self, place: _Place) -> None:
        """Another visit of the node begins: what it sends from now on are other messages."""
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
    """The namespaces that a namespace lies in, from the outermost inwards."""
    return [namespace[:index] for index, letter in enumerate(namespace) if letter in "|/"]


def is_below(namespace: str, other: str) -> bool:
    """Whether a namespace lies inside another one."""
    return len(namespace) > len(other) and namespace.startswith(other) and namespace[len(other)] in "|/"


def _members(data: object) -> dict[str, Any]:
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def _message_id(data: object, about: StreamMetadata) -> str | None:
    own = _members(data).get("message_id")
    return own if isinstance(own, str) else about.message_id
