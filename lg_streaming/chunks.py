"""Parse chunks of a model's answer from the clients of OpenAI, Anthropic, LangChain and Ollama.

No client is imported: chunks, objects or mappings, are recognized by their shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

__all__ = [
    "ContentPart",
    "block_part",
    "get_message_id",
    "get_reasoning",
    "parse_chunk",
    "text_part",
    "thinking_part",
    "tool_args_part",
]


class ContentPart(NamedTuple):
    """Piece of a message: an update's type and its data."""

    type: str
    """``token``, ``thinking`` or ``tool_args``."""
    data: dict[str, Any]


def text_part(content: str) -> ContentPart:
    """Return a piece of the answer."""
    return ContentPart("token", {"content": content})


def thinking_part(content: str) -> ContentPart:
    """Return a piece of reasoning."""
    return ContentPart("thinking", {"content": content})


def block_part(content: dict[str, Any]) -> ContentPart:
    """Return a content block that is no text: an image, a citation, a refusal, a call of a provider's tool."""
    return ContentPart("token", {"content": "", "blocks": [content]})


def tool_args_part(call_id: object, name: object, args: object, index: object) -> ContentPart:
    """Return a piece of the arguments of a tool call, without the fields that are None."""
    data = {"tool_call_id": call_id, "tool": name, "args": args, "index": index}
    return ContentPart("tool_args", {key: value for key, value in data.items() if value is not None})


def parse_chunk(chunk: object) -> Iterator[ContentPart]:
    """Yield the parts of a text, or of a chunk from a client of OpenAI, Anthropic, LangChain or Ollama.

    Any other value has no parts. Errors of the chunk's properties are raised.
    """
    if isinstance(chunk, str):
        if chunk:
            yield text_part(chunk)
    elif (choices := _get(chunk, "choices")) is not None:
        yield from _parse_openai(choices)
    elif isinstance(kind := _get(chunk, "type"), str) and kind in _PARSERS:
        yield from _PARSERS[kind](chunk)
    elif (message := _get(chunk, "message")) is not None:
        yield from parse_chunk(message)
    else:
        kwargs = _get(chunk, "additional_kwargs")
        yield from _parse_thinking(_get(kwargs, "reasoning_content") or _get(chunk, "thinking"))
        yield from _parse_content(_get(chunk, "content"))
        for call in cast("Iterable[object]", _get(chunk, "tool_call_chunks") or ()):
            yield tool_args_part(_get(call, "id"), _get(call, "name"), _get(call, "args"), _get(call, "index"))


def get_message_id(chunk: object) -> str | None:
    """Return the id of the message that a chunk belongs to, if the chunk has one."""
    if isinstance(chunk, str):
        return None
    message = _get(chunk, "message")
    found = _get(chunk if message is None else message, "id")
    return found if isinstance(found, str) and found else None


def _get(thing: object, name: str) -> Any:
    return cast("Mapping[str, Any]", thing).get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def get_reasoning(found: object) -> str:
    """Return the reasoning in a content block of any provider; an empty text where it has none.

    Reads ``reasoning`` and ``thinking`` (a text, or blocks of text), the ``summary`` of OpenAI's Responses API and
    Bedrock's ``reasoning_content``.
    """
    if _get(found, "type") not in {"reasoning", "thinking", "reasoning_content", "thinking_delta"}:
        return ""
    for name in ("reasoning", "thinking", "summary", "reasoning_content", "text"):
        if words := _join_texts(_get(found, name)):
            return words
    return ""


def _join_texts(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_join_texts(_get(each, "text")) for each in cast("list[object]", value))
    return _join_texts(cast("Mapping[str, Any]", value).get("text")) if isinstance(value, Mapping) else ""


def _parse_content(content: object) -> Iterator[ContentPart]:
    if isinstance(content, str):
        if content:
            yield text_part(content)
    elif isinstance(content, list):
        for each in cast("list[object]", content):
            yield from _parse_block(each)


_TOOL_BLOCKS = frozenset({"tool_call", "tool_call_chunk", "tool_use", "input_json_delta", "function_call"})


def _parse_block(found: object) -> Iterator[ContentPart]:
    kind = _get(found, "type")
    if isinstance(found, str) or kind in {"text", "text_delta"}:
        yield from _parse_content(found if isinstance(found, str) else _get(found, "text"))
        if _get(found, "annotations") or _get(found, "citations"):
            yield from _pass_through({"text": ""}, found)
    elif words := get_reasoning(found):
        yield thinking_part(words)
    elif isinstance(kind, str) and kind not in _TOOL_BLOCKS and kind not in {"reasoning", "thinking"}:
        yield from _pass_through({}, found)


def _pass_through(changed: dict[str, Any], found: object) -> Iterator[ContentPart]:
    """Yield a block unchanged but for the fields in ``changed``."""
    plain = _to_plain(found)
    if isinstance(plain, Mapping):
        yield block_part({**cast("Mapping[str, Any]", plain), **changed})


def _to_plain(found: object) -> object:
    """Return an object of a client's class as a mapping."""
    dump = getattr(found, "model_dump", None)
    return dump(mode="json", exclude_none=True) if callable(dump) else found


def _parse_thinking(content: object) -> Iterator[ContentPart]:
    if isinstance(content, str) and content:
        yield thinking_part(content)


def _parse_refusal(content: object) -> Iterator[ContentPart]:
    if isinstance(content, str) and content:
        yield block_part({"type": "refusal", "refusal": content})


def _parse_openai(choices: object) -> Iterator[ContentPart]:
    """Parse ``choices[0].delta`` of a chat completion; other choices are other answers."""
    for choice in list(cast("Iterable[object]", choices))[:1]:
        delta = _get(choice, "delta")
        yield from _parse_thinking(_get(delta, "reasoning_content") or _get(delta, "reasoning"))
        yield from _parse_content(_get(delta, "content"))
        yield from _parse_refusal(_get(delta, "refusal"))
        if annotations := _get(delta, "annotations"):
            yield block_part({"type": "text", "text": "", "annotations": [_to_plain(each) for each in annotations]})
        for call in cast("Iterable[object]", _get(delta, "tool_calls") or ()):
            function = _get(call, "function")
            yield tool_args_part(
                _get(call, "id"), _get(function, "name"), _get(function, "arguments"), _get(call, "index")
            )


def _parse_anthropic_delta(event: object) -> Iterator[ContentPart]:
    delta = _get(event, "delta")
    match _get(delta, "type"):
        case "text_delta":
            yield from _parse_content(_get(delta, "text"))
        case "thinking_delta":
            yield from _parse_thinking(_get(delta, "thinking"))
        case "input_json_delta":
            yield tool_args_part(None, None, _get(delta, "partial_json"), _get(event, "index"))
        case "citations_delta":
            yield block_part({"type": "text", "text": "", "citations": [_to_plain(_get(delta, "citation"))]})
        case _:
            pass


def _parse_anthropic_start(event: object) -> Iterator[ContentPart]:
    opened = _get(event, "content_block")
    if _get(opened, "type") == "tool_use":
        yield tool_args_part(_get(opened, "id"), _get(opened, "name"), "", _get(event, "index"))
    elif _get(opened, "type") not in {"text", "thinking"}:
        yield from _pass_through({}, opened)


def _parse_response_text(event: object) -> Iterator[ContentPart]:
    yield from _parse_content(_get(event, "delta"))


def _parse_response_reasoning(event: object) -> Iterator[ContentPart]:
    yield from _parse_thinking(_get(event, "delta"))


def _parse_response_refusal(event: object) -> Iterator[ContentPart]:
    yield from _parse_refusal(_get(event, "delta"))


def _parse_response_annotation(event: object) -> Iterator[ContentPart]:
    yield block_part({"type": "text", "text": "", "annotations": [_to_plain(_get(event, "annotation"))]})


def _parse_response_item(event: object) -> Iterator[ContentPart]:
    item = _get(event, "item")
    if _get(item, "type") == "function_call":
        yield tool_args_part(_get(item, "call_id"), _get(item, "name"), "", _get(event, "output_index"))


def _parse_response_arguments(event: object) -> Iterator[ContentPart]:
    yield tool_args_part(None, None, _get(event, "delta"), _get(event, "output_index"))


def _parse_anthropic_text(event: object) -> Iterator[ContentPart]:
    """Parse a block of text. An event with a snapshot of all the text so far repeats the deltas."""
    if _get(event, "snapshot") is None:
        yield from _parse_content(_get(event, "text"))


def _skip(_: object) -> Iterator[ContentPart]:
    yield from ()


_PARSERS = {
    "content_block_delta": _parse_anthropic_delta,
    "content_block_start": _parse_anthropic_start,
    "response.output_text.delta": _parse_response_text,
    "response.output_text.annotation.added": _parse_response_annotation,
    "response.refusal.delta": _parse_response_refusal,
    "response.output_item.added": _parse_response_item,
    "response.function_call_arguments.delta": _parse_response_arguments,
    "response.reasoning_text.delta": _parse_response_reasoning,
    "response.reasoning_summary_text.delta": _parse_response_reasoning,
    "text": _parse_anthropic_text,
    # events of the same streams that repeat the deltas, or have no text
    "thinking": _skip,
    "message_start": _skip,
    "content_block_stop": _skip,
    "message_delta": _skip,
    "message_stop": _skip,
}
