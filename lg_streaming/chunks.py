"""What a chunk of a model's answer says, for whatever client it came from.

Nothing here imports a client: chunks are known by their shape, as objects or as mappings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

__all__ = ["Part", "message_id_of", "parts_of_chunk", "text", "thinking", "tool_args"]


class Part(NamedTuple):
    """One piece of a message: an update's type and what goes into its data."""

    type: str
    """``token``, ``thinking`` or ``tool_args``."""
    data: dict[str, Any]


def text(content: str) -> Part:
    """A piece of the answer."""
    return Part("token", {"content": content})


def thinking(content: str) -> Part:
    """A piece of reasoning."""
    return Part("thinking", {"content": content})


def tool_args(call_id: object, name: object, args: object, index: object) -> Part:
    """A piece of the arguments of a tool call; what is None is not known."""
    data = {"tool_call_id": call_id, "tool": name, "args": args, "index": index}
    return Part("tool_args", {key: value for key, value in data.items() if value is not None})


def parts_of_chunk(chunk: object) -> Iterator[Part]:
    """The parts of a chunk: a text, or a chunk as OpenAI, Anthropic, LangChain or Ollama clients give it.

    What is none of these has no parts. Raises what the chunk's own properties raise.
    """
    if isinstance(chunk, str):
        if chunk:
            yield text(chunk)
    elif (choices := _get(chunk, "choices")) is not None:
        yield from _of_openai(choices)
    elif isinstance(kind := _get(chunk, "type"), str) and kind in _READERS:
        yield from _READERS[kind](chunk)
    elif (message := _get(chunk, "message")) is not None:
        yield from parts_of_chunk(message)
    else:
        yield from _of_content(_get(chunk, "content"))


def message_id_of(chunk: object) -> str | None:
    """The id of the message that a chunk belongs to, where the chunk says it."""
    if isinstance(chunk, str):
        return None
    message = _get(chunk, "message")
    found = _get(chunk if message is None else message, "id")
    return found if isinstance(found, str) and found else None


def _get(thing: object, name: str) -> Any:
    return cast("Mapping[str, Any]", thing).get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _of_content(content: object) -> Iterator[Part]:
    if isinstance(content, str):
        if content:
            yield text(content)
    elif isinstance(content, list):
        for block in cast("list[object]", content):
            if isinstance(block, str):
                yield from _of_content(block)
            elif _get(block, "type") in {"text", "text_delta"}:
                yield from _of_content(_get(block, "text"))
            elif _get(block, "type") in {"thinking", "reasoning"}:
                yield from _thinking(_get(block, "thinking") or _get(block, "reasoning"))


def _thinking(content: object) -> Iterator[Part]:
    if isinstance(content, str) and content:
        yield thinking(content)


def _of_openai(choices: object) -> Iterator[Part]:
    """``choices[0].delta`` of a chat completion; other choices are other answers."""
    for choice in list(cast("Iterable[object]", choices))[:1]:
        delta = _get(choice, "delta")
        yield from _thinking(_get(delta, "reasoning_content") or _get(delta, "reasoning"))
        yield from _of_content(_get(delta, "content"))
        for call in cast("Iterable[object]", _get(delta, "tool_calls") or ()):
            function = _get(call, "function")
            yield tool_args(_get(call, "id"), _get(function, "name"), _get(function, "arguments"), _get(call, "index"))


def _of_anthropic(event: object) -> Iterator[Part]:
    delta = _get(event, "delta")
    match _get(delta, "type"):
        case "text_delta":
            yield from _of_content(_get(delta, "text"))
        case "thinking_delta":
            yield from _thinking(_get(delta, "thinking"))
        case "input_json_delta":
            yield tool_args(None, None, _get(delta, "partial_json"), _get(event, "index"))
        case _:
            pass


def _of_anthropic_start(event: object) -> Iterator[Part]:
    block = _get(event, "content_block")
    if _get(block, "type") == "tool_use":
        yield tool_args(_get(block, "id"), _get(block, "name"), "", _get(event, "index"))


def _of_response(event: object) -> Iterator[Part]:
    yield from _of_content(_get(event, "delta"))


def _of_response_reasoning(event: object) -> Iterator[Part]:
    yield from _thinking(_get(event, "delta"))


def _of_text(event: object) -> Iterator[Part]:
    """A block of text. An event that also has all the text so far repeats what deltas said."""
    if _get(event, "snapshot") is None:
        yield from _of_content(_get(event, "text"))


def _of_nothing(_: object) -> Iterator[Part]:
    yield from ()


_READERS = {
    "content_block_delta": _of_anthropic,
    "content_block_start": _of_anthropic_start,
    "response.output_text.delta": _of_response,
    "response.reasoning_text.delta": _of_response_reasoning,
    "response.reasoning_summary_text.delta": _of_response_reasoning,
    "text": _of_text,
    # events of the same streams that repeat what deltas said, or say no text
    "thinking": _of_nothing,
    "message_start": _of_nothing,
    "content_block_stop": _of_nothing,
    "message_delta": _of_nothing,
    "message_stop": _of_nothing,
}
