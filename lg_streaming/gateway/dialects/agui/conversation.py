"""The server's side of a conversation: its state, what a request adds to it, and what it waits for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.gateway.dialects.agui.messages import (
    Json,
    id_of,
    members,
    message_id_of,
    messages_in,
    snapshot_messages,
    to_langchain,
    tool_calls,
)
from lg_streaming.gateway.dialects.agui.patch import is_equal
from lg_streaming.gateway.dialects.wire import results_of_stopped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lg_streaming.gateway.dialects.agui.request import RunInput
    from lg_streaming.hub import StreamHub
    from lg_streaming.log.base import LogState
    from lg_streaming.runs import RemoteRunner

__all__ = ["Conversation", "Turn", "open_prompts"]

_SENT: Final = frozenset({"user", "system", "developer", "tool"})
"""Roles of the messages that a page adds to a conversation."""
_SAID: Final = ("human", "ai")
_OWN_FIELDS: Final = frozenset({"messages", "tools", "context", "ag-ui", "copilotkit"})
"""Fields of a graph's input that are not of the page's state."""
_REMOVE_ALL: Final[Json] = {"type": "remove", "content": "", "id": "__remove_all__"}
_LOOKED_AT: Final = 200
"""Updates before the head in which an open interrupt is looked for."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Additions of a request to a conversation."""

    messages: list[Json]
    """New messages, in LangChain's JSON."""
    replaced: str | None = None
    """Id of the first message that the new ones replace, with all that follow it."""
    is_of_new_page: bool = False
    """True if the page has no message of the conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """State of a thread when a request comes; empty for a new thread, and for a graph without a checkpointer."""

    values: Json = field(default_factory=dict[str, Any])
    shown: Json = field(default_factory=dict[str, Any])
    """The values as callers may see them: the application's ``redact`` has removed secrets."""
    checkpoint_id: str = ""
    is_known: bool = False

    @classmethod
    async def load(cls, runner: RemoteRunner | None, graph: str | None, thread_id: str) -> Conversation:
        """Read the newest state of a thread; an empty one if the graph is not registered here."""
        if runner is None or graph is None or graph not in runner.graphs:
            return cls()
        state = await runner.threads.state(graph, thread_id, redacted=False)
        if state is None:
            return cls()
        values = members(state.get("values"))
        shown = members(members(runner.runner.hub.publisher.redact("state", {"values": values})).get("values"))
        checkpoint_id = id_of(members(state.get("checkpoint")).get("checkpoint_id"))
        return cls(values=values, shown=shown, checkpoint_id=checkpoint_id, is_known=True)

    @property
    def messages(self) -> list[Json]:
        """The messages, in LangChain's JSON."""
        return messages_in(self.values)

    @property
    def message_ids(self) -> frozenset[str]:
        """Ids of the messages."""
        return frozenset(message_id_of(each, place) for place, each in enumerate(self.messages))

    def calls(self) -> tuple[dict[str, str], frozenset[str]]:
        """Return the tool calls since the last message of a user, by id, and the ids of those that have a result.

        The value of a call is the id of its message.
        """
        asked: dict[str, str] = {}
        answered: set[str] = set()
        messages = self.messages
        for place in reversed(range(len(messages))):
            message = messages[place]
            if message.get("type") == "human":
                break
            message_id = message_id_of(message, place)
            asked = {each["id"]: message_id for each in tool_calls(message)} | asked
            if message.get("type") == "tool":
                answered.add(id_of(message.get("tool_call_id")))
        return asked, frozenset(answered)

    # ---------------------------------------------------------------- what a request adds
    def turn(self, request: RunInput) -> Turn:
        """Return the new messages of a request, found by their ids, and the message that they replace.

        A request has the whole conversation. It replaces a message that has the same id and another content, or that
        is missing in it after a known one. A request without any known message only adds: its page has been reloaded.
        A question after calls without results closes them.
        """
        turn = self._turn(request)
        if turn.replaced is not None or not _has_user(turn.messages):
            return turn
        asked, answered = self.calls()
        closed = answered | {id_of(each.get("tool_call_id")) for each in turn.messages}
        stopped = results_of_stopped(each for each in asked if each not in closed)
        return replace(turn, messages=[*stopped, *turn.messages]) if stopped else turn

    def _turn(self, request: RunInput) -> Turn:
        sent, present = request.messages, self.messages
        shown = {id_of(each.get("id")): each for each in messages_in(self.shown)}
        if not present:
            return Turn(_converted(enumerate(sent), _SENT | {"assistant"}))
        last, place = -1, -1
        for number, message in enumerate(sent):
            found = self._place_of(message, place)
            if found is None:
                continue
            known = (present[found], shown.get(id_of(present[found].get("id")), {}))
            if message["role"] == "user" and all(_is_changed(each, message, number) for each in known):
                return Turn(_converted(list(enumerate(sent))[number:], _SENT), message_id_of(present[found], found))
            last, place = number, max(place, found)  # a page may show a tool's result behind a later message
        added = _converted(list(enumerate(sent))[last + 1 :], _SENT)
        if last < 0:
            return Turn(added, is_of_new_page=True)
        missing = [at for at in range(place + 1, len(present)) if present[at].get("type") in _SAID]
        repeats = not added and sent[last]["role"] != "assistant"
        if missing and (repeats or (added and _has_user(added))):
            return Turn(added, message_id_of(present[missing[0]], missing[0]))
        return Turn(added)

    def _place_of(self, message: Json, after: int) -> int | None:
        """Return the place of a request's message; None for a new one.

        The result of a tool is known by its call, too, as the graph may have made its id. It then comes after the
        message before it, because some models use the same ids of calls in each turn.
        """
        present = self.messages
        for place, each in enumerate(present):
            if message_id_of(each, place) == message.get("id"):
                return place
        if message["role"] == "tool":
            for place in range(after + 1, len(present)):
                if present[place].get("type") == "tool" and present[place].get("tool_call_id") == message.get(
                    "toolCallId"
                ):
                    return place
        return None

    def input(self, request: RunInput, turn: Turn, fields: Iterable[str], *, from_start: bool) -> Json:
        """Return the graph's input: the new messages, and the fields of the page's state that it has changed.

        Args:
            request: The request.
            turn: What it adds.
            fields: Fields of the graph's input.
            from_start: Whether all earlier messages are removed first.
        """
        known = frozenset(fields)
        found: Json = {}
        if "messages" in known:
            found["messages"] = [_REMOVE_ALL, *turn.messages] if from_start else turn.messages
        for name in (known - _OWN_FIELDS) & request.state.keys():
            value = request.state[name]
            if not any(name in each and is_equal(each[name], value) for each in (self.values, self.shown)):
                found[name] = value
        offered: Json = {
            "tools": request.tools,
            "context": request.context,
            "ag-ui": {"tools": request.tools, "context": request.context},
            "copilotkit": {"actions": request.tools, "context": request.context},
        }
        return found | {name: value for name, value in offered.items() if name in known}


def _converted(sent: Iterable[tuple[int, Json]], roles: frozenset[str]) -> list[Json]:
    return [to_langchain(each, place) for place, each in sent if each["role"] in roles]


def _has_user(messages: Sequence[Json]) -> bool:
    return any(each["type"] == "human" for each in messages)


def _is_changed(present: Json, sent: Json, number: int) -> bool:
    if present.get("type", "human") != "human" or sent.get("content") is None:
        return False
    found, again = snapshot_messages([present]), snapshot_messages([to_langchain(sent, number)])
    return not found or found[0]["content"] != again[0]["content"]


async def open_prompts(hub: StreamHub, execution_id: str, state: LogState) -> dict[str, Json] | None:
    """Return the prompts that an interrupted run waits for, by their ids; None if they are unknown."""
    found: dict[str, Json] | None = None
    read = await hub.log.read(execution_id, max(0, state.head - _LOOKED_AT), _LOOKED_AT)
    for record in read.records if read is not None else ():
        if record.type == "workflow_interrupted":
            prompts = members(record.update.data).get("prompts")
            found = {id_of(members(each).get("prompt_id")): members(each) for each in prompts or ()}
        elif record.type == "human_response" and found:
            found.pop(id_of(members(record.update.data).get("prompt_id")), None)
        elif record.type == "workflow_start":
            found = None
    return found
