"""The shapes of Flowise's events, made of the data of updates.

Anybody may publish an update of any type with any data, so nothing is taken for granted here: what is not of the shape
it should have is left out, and nothing raises.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.codec import Codec, decode_data

if TYPE_CHECKING:
    from lg_streaming.log.base import StoredUpdate

__all__ = [
    "Json",
    "Recent",
    "action_of_interrupt",
    "action_of_prompt",
    "bare_list",
    "called_tool",
    "data_of",
    "document",
    "error_text",
    "executed_node",
    "known_metadata",
    "members",
    "next_agent_flow",
    "text_of",
    "used_tool",
    "used_tool_of",
]

Json = dict[str, Any]

_JSON: Final = Codec()
_METADATA: Final = {
    "chatId": "chat_id",
    "chatMessageId": "chat_message_id",
    "question": "question",
    "sessionId": "session_id",
    "memoryType": "memory_type",
    "followUpPrompts": "follow_up_prompts",
    "flowVariables": "flow_variables",
    "action": "action",
}
_JSON_TEXTS: Final = frozenset({"followUpPrompts", "flowVariables", "action"})
_WRAPPERS: Final = ("documents", "tools", "artifacts")
_API_KEY: Final = re.compile(r"incorrect api key", re.IGNORECASE)


# ---------------------------------------------------------------- updates
def data_of(record: StoredUpdate) -> Any:
    """The data of an update."""
    return decode_data(record.json) if record.scope.extra is None else orjson.loads(record.json)["data"]


def members(data: object) -> Json:
    """`data` where it is an object; else one without members."""
    return cast("Json", data) if isinstance(data, dict) else {}


def text_of(data: object) -> str:
    """The text of a `token` or `thinking` update."""
    content = data if isinstance(data, str) else members(data).get("content")
    return content if isinstance(content, str) else ""


def error_text(error: object, otherwise: str) -> str:
    """An error as one sentence. What a model's provider says of a wrong key holds a part of the key: it stays here."""
    message = error if isinstance(error, str) else members(error).get("message")
    if not isinstance(message, str) or not message:
        return otherwise
    return "the model's provider refuses the API key" if _API_KEY.search(message) else message


def bare_list(data: object) -> list[Any]:
    """The list that `data` is, or holds as its one member; a list of it where it is something else."""
    if isinstance(data, list):
        return cast("list[Any]", data)
    for name in _WRAPPERS:
        if isinstance(held := members(data).get(name), list):
            return cast("list[Any]", held)
    return [] if data is None else [data]


def known_metadata(data: object) -> Json:
    """What Flowise knows of a `metadata` update, under its names; texts that hold JSON are read."""
    given = members(data)
    found = {name: given.get(name) or given.get(ours) for name, ours in _METADATA.items()}
    return {name: _read(value) if name in _JSON_TEXTS else value for name, value in found.items() if value}


def _read(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def document(data: object) -> object:
    """A document of LangChain's with Flowise's names; anything else as it is."""
    given = members(data)
    if "page_content" not in given:
        return data
    kept = {name: given[name] for name in ("id", "metadata") if given.get(name) is not None}
    return {"pageContent": given["page_content"], **kept}


# ---------------------------------------------------------------- tools
def called_tool(data: object) -> Json:
    """The call that a `tool_start` update announces."""
    given = members(data)
    call = given.get("input")
    return {"tool": _text(given.get("tool")) or "tool", "toolInput": {} if call is None else call, "toolOutput": ""}


def used_tool_of(call: Json, data: object, *, failed: bool) -> Json:
    """What became of `call`, as a `tool_complete` or `tool_error` update says."""
    given = members(data)
    output = given.get("output")
    used = {**call, "toolOutput": "" if output is None else output}
    if given.get("input") is not None:
        used["toolInput"] = given["input"]
    if failed or given.get("error") is not None:
        used["error"] = error_text(given.get("error"), "the tool failed")
    return used


def used_tool(data: object) -> object:
    """One of the tools in a `used_tools` update."""
    given = members(data)
    if "tool" not in given or "toolInput" in given:
        return data
    used = used_tool_of(called_tool(given), given, failed=False)
    documents = given.get("source_documents")
    return used if documents is None else {**used, "sourceDocuments": [document(each) for each in bare_list(documents)]}


# ---------------------------------------------------------------- nodes
def next_agent_flow(record: StoredUpdate, data: object, status: str) -> Json:
    """How a node stands now."""
    given = members(data)
    node_id = _text(given.get("node_id")) or record.scope.node_id or ""
    told: Json = {"nodeId": node_id, "nodeLabel": _text(given.get("node_name")) or node_id, "status": status}
    if status in {"ERROR", "TERMINATED"}:
        told["error"] = error_text(given.get("error"), "the node failed")
    return told


def executed_node(told: Json, data: object, previous: Iterable[str]) -> Json:
    """What a node that has ended did, as far as its updates say."""
    given = members(data)
    details: Json = {"name": told["nodeLabel"]}
    details |= {
        name: value
        for name, value in {
            "output": given.get("result"),
            "duration_s": given.get("duration_s"),
            "error": told.get("error"),
        }.items()
        if value is not None
    }
    return {
        "nodeId": told["nodeId"],
        "nodeLabel": told["nodeLabel"],
        "data": details,
        "previousNodeIds": list(previous),
        "status": told["status"],
    }


class Recent:
    """The newest of what a list that is sent again and again may hold, as JSON.

    Args:
        items: How many.
        size: How many bytes together; the newest is kept even if it is larger.
    """

    def __init__(self, items: int = 128, size: int = 65_536) -> None:
        self._items = items
        self._size = size
        self._held: deque[bytes] = deque()
        self._bytes = 0

    def add(self, item: object) -> None:
        """One more; the oldest go when there are too many."""
        json = _JSON.to_json(item)
        self._held.append(json)
        self._bytes += len(json)
        while len(self._held) > 1 and (len(self._held) > self._items or self._bytes > self._size):
            self._bytes -= len(self._held.popleft())

    def json(self, *more: object) -> bytes:
        """All of them as a list, and `more`."""
        return b"[%b]" % b",".join([*self._held, *map(_JSON.to_json, more)])


# ---------------------------------------------------------------- people
def action_of_prompt(record: StoredUpdate, data: object) -> Json:
    """What a chat shows for a `human_prompt` update: buttons, and what they are about."""
    given = members(data)
    choices = given.get("choices")
    labels = [str(each) for each in cast("list[object]", choices)] if isinstance(choices, list) else []
    if given.get("type") == "choice" and labels:
        shown: Json = {"mapping": {}, "elements": [{"type": "button", "label": label} for label in labels]}
    else:
        shown = _proceed_or_reject(*labels) if len(labels) == 2 else _proceed_or_reject()  # noqa: PLR2004
    asked = {
        "humanInputDescription": text_of(given.get("prompt")),
        "humanInputEnableFeedback": given.get("type") == "input",
    }
    return {"id": _text(given.get("prompt_id")), **shown, "data": _about(record, given, {**given, **asked})}


def action_of_interrupt(record: StoredUpdate, data: object) -> Json:
    """The same for a node that waits at LangGraph's `interrupt()`, after its `node_interrupted` update."""
    given = members(data)
    first = members(next(iter(bare_list(given.get("interrupts"))), None))
    value = first.get("value")
    question = next((text for key in ("prompt", "question", "message") if (text := members(value).get(key))), value)
    asked = {"value": value, "humanInputDescription": text_of(question), "humanInputEnableFeedback": True}
    return {"id": _text(first.get("id")), **_proceed_or_reject(), "data": _about(record, given, asked)}


def _proceed_or_reject(proceed: str = "Proceed", reject: str = "Reject") -> Json:
    elements = [
        {"type": "agentflowv2-approve-button", "label": proceed},
        {"type": "agentflowv2-reject-button", "label": reject},
    ]
    return {"mapping": {"approve": proceed, "reject": reject}, "elements": elements}


def _about(record: StoredUpdate, given: Json, asked: Json) -> Json:
    told = next_agent_flow(record, given, "STOPPED")
    return {"nodeId": told["nodeId"], "nodeLabel": told["nodeLabel"], "input": asked}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
