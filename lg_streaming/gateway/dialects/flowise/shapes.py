"""The shapes of Flowise's events, made of the data of updates.

Any program may publish an update of any type with any data. So values of another shape than expected are left out,
and nothing raises.
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
    """Decode the data of an update."""
    return decode_data(record.json) if record.scope.extra is None else orjson.loads(record.json)["data"]


def members(data: object) -> Json:
    """Return `data` if it is an object, else an empty object."""
    return cast("Json", data) if isinstance(data, dict) else {}


def text_of(data: object) -> str:
    """Return the text of a `token` or `thinking` update."""
    content = data if isinstance(data, str) else members(data).get("content")
    return content if isinstance(content, str) else ""


def error_text(error: object, otherwise: str) -> str:
    """Return an error as one sentence. A provider's message about a wrong key, which quotes the key, is left out."""
    message = error if isinstance(error, str) else members(error).get("message")
    if not isinstance(message, str) or not message:
        return otherwise
    return "the model's provider refuses the API key" if _API_KEY.search(message) else message


def bare_list(data: object) -> list[Any]:
    """Return `data` if it is a list, else the list that it wraps as its only member, else `[data]`."""
    if isinstance(data, list):
        return cast("list[Any]", data)
    for name in _WRAPPERS:
        if isinstance(held := members(data).get(name), list):
            return cast("list[Any]", held)
    return [] if data is None else [data]


def known_metadata(data: object) -> Json:
    """Return the fields of a `metadata` update that Flowise has, under its names; texts that hold JSON are parsed."""
    fields = members(data)
    found = {name: fields.get(name) or fields.get(ours) for name, ours in _METADATA.items()}
    return {name: _read(value) if name in _JSON_TEXTS else value for name, value in found.items() if value}


def _read(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def document(data: object) -> object:
    """Rename the fields of a LangChain document to Flowise's; return other data unchanged."""
    fields = members(data)
    if "page_content" not in fields:
        return data
    kept = {name: fields[name] for name in ("id", "metadata") if fields.get(name) is not None}
    return {"pageContent": fields["page_content"], **kept}


# ---------------------------------------------------------------- tools
def called_tool(data: object) -> Json:
    """Return the call of a `tool_start` update in Flowise's form."""
    fields = members(data)
    call = fields.get("input")
    return {"tool": _text(fields.get("tool")) or "tool", "toolInput": {} if call is None else call, "toolOutput": ""}


def used_tool_of(call: Json, data: object, *, failed: bool) -> Json:
    """Return the result of `call`, from a `tool_complete` or `tool_error` update."""
    fields = members(data)
    output = fields.get("output")
    used = {**call, "toolOutput": "" if output is None else output}
    if fields.get("input") is not None:
        used["toolInput"] = fields["input"]
    if failed or fields.get("error") is not None:
        used["error"] = error_text(fields.get("error"), "the tool failed")
    return used


def used_tool(data: object) -> object:
    """Return a tool of a `used_tools` update in Flowise's form."""
    fields = members(data)
    if "tool" not in fields or "toolInput" in fields:
        return data
    used = used_tool_of(called_tool(fields), fields, failed=False)
    documents = fields.get("source_documents")
    return used if documents is None else {**used, "sourceDocuments": [document(each) for each in bare_list(documents)]}


# ---------------------------------------------------------------- nodes
def next_agent_flow(record: StoredUpdate, data: object, status: str) -> Json:
    """Return the state of a node."""
    fields = members(data)
    node_id = _text(fields.get("node_id")) or record.scope.node_id or ""
    node: Json = {"nodeId": node_id, "nodeLabel": _text(fields.get("node_name")) or node_id, "status": status}
    if status in {"ERROR", "TERMINATED"}:
        node["error"] = error_text(fields.get("error"), "the node failed")
    return node


def executed_node(node: Json, data: object, previous: Iterable[str]) -> Json:
    """Return the output of a node that has ended, from its updates."""
    fields = members(data)
    details: Json = {"name": node["nodeLabel"]}
    details |= {
        name: value
        for name, value in {
            "output": fields.get("result"),
            "duration_s": fields.get("duration_s"),
            "error": node.get("error"),
        }.items()
        if value is not None
    }
    return {
        "nodeId": node["nodeId"],
        "nodeLabel": node["nodeLabel"],
        "data": details,
        "previousNodeIds": list(previous),
        "status": node["status"],
    }


class Recent:
    """The newest items of a list that is sent repeatedly, as JSON.

    Args:
        items: Maximum number of items.
        size: Maximum of bytes together; the newest item is kept even if it is larger.
    """

    def __init__(self, items: int = 128, size: int = 65_536) -> None:
        self._items = items
        self._size = size
        self._held: deque[bytes] = deque()
        self._bytes = 0

    def add(self, item: object) -> None:
        """Add an item; drop the oldest above the bounds."""
        json = _JSON.to_json(item)
        self._held.append(json)
        self._bytes += len(json)
        while len(self._held) > 1 and (len(self._held) > self._items or self._bytes > self._size):
            self._bytes -= len(self._held.popleft())

    def json(self, *more: object) -> bytes:
        """Return all items, and `more`, as a JSON list."""
        return b"[%b]" % b",".join([*self._held, *map(_JSON.to_json, more)])


# ---------------------------------------------------------------- people
def action_of_prompt(record: StoredUpdate, data: object) -> Json:
    """Return the form of a `human_prompt` update in a chat: buttons, and their subject."""
    fields = members(data)
    choices = fields.get("choices")
    labels = [str(each) for each in cast("list[object]", choices)] if isinstance(choices, list) else []
    if fields.get("type") == "choice" and labels:
        shown: Json = {"mapping": {}, "elements": [{"type": "button", "label": label} for label in labels]}
    else:
        shown = _proceed_or_reject(*labels) if len(labels) == 2 else _proceed_or_reject()  # noqa: PLR2004
    asked = {
        "humanInputDescription": text_of(fields.get("prompt")),
        "humanInputEnableFeedback": fields.get("type") == "input",
    }
    return {"id": _text(fields.get("prompt_id")), **shown, "data": _about(record, fields, {**fields, **asked})}


def action_of_interrupt(record: StoredUpdate, data: object) -> Json:
    """Return the action for a node that waits at LangGraph's `interrupt()`, from its `node_interrupted` update."""
    fields = members(data)
    first = members(next(iter(bare_list(fields.get("interrupts"))), None))
    value = first.get("value")
    question = next((text for key in ("prompt", "question", "message") if (text := members(value).get(key))), value)
    asked = {"value": value, "humanInputDescription": text_of(question), "humanInputEnableFeedback": True}
    return {"id": _text(first.get("id")), **_proceed_or_reject(), "data": _about(record, fields, asked)}


def _proceed_or_reject(proceed: str = "Proceed", reject: str = "Reject") -> Json:
    elements = [
        {"type": "agentflowv2-approve-button", "label": proceed},
        {"type": "agentflowv2-reject-button", "label": reject},
    ]
    return {"mapping": {"approve": proceed, "reject": reject}, "elements": elements}


def _about(record: StoredUpdate, fields: Json, asked: Json) -> Json:
    node = next_agent_flow(record, fields, "STOPPED")
    return {"nodeId": node["nodeId"], "nodeLabel": node["nodeLabel"], "input": asked}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
