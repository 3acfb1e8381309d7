"""Messages of a conversation: from LangChain's JSON to AG-UI's, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

__all__ = [
    "Json",
    "arguments_of",
    "as_list",
    "id_of",
    "members",
    "message_id_of",
    "messages_in",
    "result_id",
    "result_text",
    "snapshot_messages",
    "text_of",
    "to_langchain",
    "tool_calls",
]

Json = dict[str, Any]

_MEDIA: Final = {"image": "image", "audio": "audio", "video": "video", "document": "file"}
"""LangChain's type of a content block, by that of AG-UI's part."""
_PARTS: Final = {"image": "image", "audio": "audio", "video": "video", "file": "document"}
_REASONING: Final = {"reasoning": ("reasoning", "summary"), "thinking": ("thinking",)}
"""Fields with the text of a block of reasoning, by its type."""
_TYPES: Final = {"user": "human", "assistant": "ai", "developer": "system", "system": "system", "tool": "tool"}


def members(value: object) -> Json:
    """Return `value` if it is an object, else an empty object."""
    return cast("Json", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return `value` if it is a list, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def id_of(value: object) -> str:
    """Return an id as text; empty without one."""
    return value if isinstance(value, str) else ""


def messages_in(values: object) -> list[Json]:
    """Return the messages of a state, in LangChain's JSON."""
    return [each for each in as_list(members(values).get("messages")) if isinstance(each, dict)]


def message_id_of(message: Json, place: int) -> str:
    """Return a message's id; one of its place in the list if it has none."""
    return id_of(message.get("id")) or f"message-{place}"


# ---------------------------------------------------------------- to the page
def text_of(content: object) -> str:
    """Return the text of a message's content."""
    if isinstance(content, str):
        return content
    texts = (each if isinstance(each, str) else _block_text(members(each)) for each in as_list(content))
    return "".join(texts)


def _block_text(block: Json) -> str:
    text = block.get("text")
    return text if block.get("type") == "text" and isinstance(text, str) else ""


def result_text(content: object) -> str:
    """Return what a tool returned as text; a value that is none as JSON."""
    if isinstance(content, str):
        return content
    blocks = as_list(content)
    if blocks and all(isinstance(each, str) or members(each).get("type") == "text" for each in blocks):
        return text_of(blocks)
    return "" if content is None else orjson.dumps(content).decode()


def result_id(call_id: str, message_id: str) -> str:
    """Return the id of a result's message: the graph makes its own only after the result was sent.

    Args:
        call_id: The call.
        message_id: The message that has the call; empty if it is unknown.
    """
    return f"{message_id or 'result'}:{call_id}"


def snapshot_messages(
    messages: Iterable[Json], *, own: Container[str] = (), with_reasoning: bool = False
) -> list[Json]:
    """Return messages in AG-UI's JSON.

    Args:
        messages: The messages, in LangChain's JSON.
        own: Ids of messages that the page has made, which are kept; see `result_id`.
        with_reasoning: Whether the models' reasoning is added, for a page that has none of it.
    """
    found: list[Json] = []
    calls: dict[str, str] = {}
    for place, message in enumerate(messages):
        message_id = message_id_of(message, place)
        calls |= {each["id"]: message_id for each in tool_calls(message)}
        if message.get("type") == "tool" and message_id not in own:
            call_id = id_of(message.get("tool_call_id"))
            message_id = result_id(call_id, calls.get(call_id, ""))
        if with_reasoning and message.get("type") == "ai" and (reasoning := _reasoning(message)):
            found.append({"id": f"{message_id}-reasoning", "role": "reasoning", "content": reasoning})
        shown = _shown(message, message_id)
        if shown is not None:
            found.append(shown)
    return found


def _shown(message: Json, message_id: str) -> Json | None:
    content, name = message.get("content"), message.get("name")
    named = {"name": name} if isinstance(name, str) and name else {}
    match message.get("type"):
        case "human":
            return {"id": message_id, "role": "user", "content": _parts(content), **named}
        case "ai":
            calls = [_call(each) for each in tool_calls(message)]
            shown = {"id": message_id, "role": "assistant", "content": text_of(content), **named}
            return {**shown, "toolCalls": calls} if calls else shown
        case "tool":
            shown = {"id": message_id, "role": "tool", "toolCallId": id_of(message.get("tool_call_id"))}
            text = result_text(content)
            failed = {"error": text} if message.get("status") == "error" else {}
            return {**shown, "content": text, **failed}
        case "system":
            return {"id": message_id, "role": "system", "content": text_of(content), **named}
        case _:
            return None


def tool_calls(message: Json) -> list[Json]:
    """Return the calls of a message that have an id."""
    return [each for each in as_list(message.get("tool_calls")) if id_of(members(each).get("id"))]


def _call(call: Json) -> Json:
    function = {"name": id_of(call.get("name")), "arguments": arguments_of(call)}
    return {"id": call["id"], "type": "function", "function": function}


def arguments_of(call: Json) -> str:
    """Return the arguments of a call as JSON text."""
    return orjson.dumps(call.get("args") or {}).decode()


def _reasoning(message: Json) -> str:
    blocks = [members(each) for each in as_list(message.get("content"))]
    texts = [_reasoning_text(each) for each in blocks]
    more = members(message.get("additional_kwargs")).get("reasoning_content")
    return "".join(texts) or (more if isinstance(more, str) else "")


def _reasoning_text(block: Json) -> str:
    for field in _REASONING.get(id_of(block.get("type")), ()):
        value = block.get(field)
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return "".join(id_of(members(each).get("text")) for each in as_list(cast("object", value)))
    return ""


def _parts(content: object) -> Any:
    """Return a user's content: a text, or a list of parts if there are others than texts."""
    if isinstance(content, str):
        return content
    parts = [part for each in as_list(content) if (part := _part(each)) is not None]
    return text_of(content) if all(each["type"] == "text" for each in parts) else parts


def _part(block: object) -> Json | None:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    fields = members(block)
    kind = id_of(fields.get("type"))
    if kind == "text":
        return {"type": "text", "text": _block_text(fields)}
    source = _source(fields)
    part = "image" if kind == "image_url" else _PARTS.get(kind)
    return {"type": part, "source": source} if part is not None and source is not None else None


def _source(block: Json) -> Json | None:
    link = block.get("image_url")
    mime = id_of(block.get("mime_type"))
    if url := id_of(block.get("url")) or id_of(link) or id_of(members(link).get("url")):
        return {"type": "url", "value": url, **({"mimeType": mime} if mime else {})}
    if data := id_of(block.get("base64")) or id_of(block.get("data")):
        return {"type": "data", "value": data, "mimeType": mime or "application/octet-stream"}
    return None


# ---------------------------------------------------------------- from the page
def to_langchain(message: Mapping[str, Any], place: int) -> Json:
    """Return a message of a request in LangChain's JSON.

    Args:
        message: The message, of a role that a graph knows.
        place: Its place in the request, for errors.

    Raises:
        BadRequestError: If its content cannot be used.
    """
    where = f"messages[{place}]"
    kind = _TYPES[message["role"]]
    converted: Json = {"type": kind, "content": _content(message.get("content"), where)}
    if message_id := id_of(message.get("id")):
        converted["id"] = message_id
    if name := id_of(message.get("name")):
        converted["name"] = name
    if kind == "tool":
        call_id = id_of(message.get("toolCallId"))
        if not call_id:
            raise BadRequestError(f"{where}.toolCallId: a tool's message needs the id of its call")
        converted["tool_call_id"] = call_id
        if message.get("error"):
            converted["status"] = "error"
    if kind == "ai" and message.get("toolCalls"):
        converted["tool_calls"] = [_langchain_call(each, where) for each in as_list(message["toolCalls"])]
    return converted


def _langchain_call(call: object, where: str) -> Json:
    function = members(members(call).get("function"))
    try:
        args = orjson.loads(function.get("arguments") or "{}")
    except (ValueError, TypeError):
        args = None
    if not isinstance(args, dict):
        raise BadRequestError(f"{where}.toolCalls: the arguments are no JSON object")
    return {"id": id_of(members(call).get("id")), "name": id_of(function.get("name")), "args": args}


def _content(content: object, where: str) -> Any:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequestError(f"{where}.content: a text or a list of parts is needed")
    return [_block(members(each), where) for each in as_list(cast("object", content))]


def _block(part: Json, where: str) -> Json:
    kind = id_of(part.get("type"))
    if kind == "text":
        return {"type": "text", "text": id_of(part.get("text"))}
    source = members(part.get("source"))
    mime = id_of(source.get("mimeType") or part.get("mimeType"))
    if kind == "binary":  # clients before 0.0.48
        kind = next((each for each in ("image", "audio", "video") if mime.startswith(each)), "document")
        source = (
            {"type": "url", "value": part["url"]} if part.get("url") else {"type": "data", "value": part.get("data")}
        )
    value = id_of(source.get("value"))
    if kind not in _MEDIA or not value:
        raise BadRequestError(f"{where}.content: a part of type {kind!r:.40} cannot be used")
    typed = {"mime_type": mime} if mime else {}
    place = "base64" if source.get("type") == "data" else "url"
    return {"type": _MEDIA[kind], place: value, **typed}
