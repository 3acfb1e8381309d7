"""Parse the content of a model's messages and chunks, through LangChain's standard content blocks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.messages import AIMessageChunk, BaseMessage

from lg_streaming.chunks import ContentPart, block_part, get_reasoning, text_part, thinking_part, tool_args_part

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from langchain_core.messages import AIMessage

__all__ = ["EventReader", "parse_late_parts", "parse_message"]

Block = dict[str, Any]

_TOOL_CALLS: Final = frozenset(
    {"tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use", "input_json_delta", "function_call"}
)
"""Blocks that repeat the message's ``tool_call_chunks`` or ``tool_calls``."""
_SIMPLE: Final[dict[object, tuple[frozenset[str], str, Callable[[str], ContentPart]]]] = {
    "text": (frozenset({"type", "text", "index"}), "text", text_part),
    "thinking": (frozenset({"type", "thinking", "index"}), "thinking", thinking_part),
    "reasoning": (frozenset({"type", "reasoning", "index"}), "reasoning", thinking_part),
}
"""Blocks that need no translator if they have these keys alone, with the key of their text and their part."""
_TRANSLATED: Final = frozenset({"reasoning_content", "reasoning", "tool_calls", "function_call", "parsed"})
"""Keys of ``additional_kwargs`` for which a message with a plain text needs no content blocks."""
_BARE: Final = frozenset({"type", "index", "id"})
"""Keys without content: a block of an unknown type with no other key is skipped."""


def parse_message(message: BaseMessage) -> Iterable[ContentPart]:
    """Return the parts of a message or a chunk, in order. The joined token texts are ``message.text``."""
    content: str | Sequence[str | Block] = message.content
    kwargs = message.additional_kwargs
    if isinstance(content, str):
        parts = _parse_text_message(message, content) if kwargs else [text_part(content)] if content else []
    elif not kwargs and (simple := _parse_single_block(content)) is not None:
        parts = simple
    elif content or kwargs:
        parts = _parse_blocks(message)
    else:
        parts = []
    if isinstance(message, AIMessageChunk):
        if message.tool_call_chunks:
            parts += [
                tool_args_part(
                    chunk.get("id") or None, chunk.get("name") or None, chunk.get("args"), chunk.get("index")
                )
                for chunk in message.tool_call_chunks
            ]
    else:
        calls: list[Any] = [*getattr(message, "tool_calls", ()), *getattr(message, "invalid_tool_calls", ())]
        parts += [_parse_whole_call(call, index) for index, call in enumerate(calls)]
    return parts


def _parse_single_block(content: Sequence[str | Block]) -> list[ContentPart] | None:
    """Return the parts of content that is one block of text or reasoning: the usual token of many providers."""
    if len(content) == 1:
        only = content[0]
        if isinstance(only, dict) and (simple := _SIMPLE.get(only.get("type"))) is not None:
            keys, name, make = simple
            words = only.get(name)
            if isinstance(words, str) and only.keys() <= keys:
                return [make(words)] if words else []
    return None


def _parse_whole_call(call: Mapping[str, Any], index: int) -> ContentPart:
    args = call.get("args")
    if not isinstance(args, str):
        args = json.dumps(args, ensure_ascii=False, default=str)
    return tool_args_part(call.get("id") or None, call.get("name") or None, args, index)


def _parse_text_message(message: BaseMessage, content: str) -> list[ContentPart]:
    """Parse a message whose content is a text, with reasoning, a refusal or media in its ``additional_kwargs``."""
    kwargs = message.additional_kwargs
    reasoning = kwargs.get("reasoning_content") or kwargs.get("reasoning")
    parts = [thinking_part(reasoning)] if isinstance(reasoning, str) and reasoning else []
    if content:
        parts.append(text_part(content))
    if kwargs.keys() <= _TRANSLATED:
        return parts
    for found in content_blocks(message):
        for part in _parse_block(found):
            is_text = part.type == "token" and "blocks" not in part.data
            if not is_text and not (part.type == "thinking" and parts and parts[0].type == "thinking"):
                parts.append(part)
    audio: object = kwargs.get("audio")
    if isinstance(audio, Mapping):  # OpenAI's Chat Completions, which no translator reads
        parts.append(block_part(_audio_block(cast("Mapping[str, Any]", audio))))
    return parts


def _audio_block(audio: Mapping[str, Any]) -> Block:
    extras = {key: value for key, value in audio.items() if key not in {"id", "data"}}
    fields = {"type": "audio", "id": audio.get("id"), "base64": audio.get("data"), "extras": extras}
    return {key: value for key, value in fields.items() if value}


def _parse_blocks(message: BaseMessage) -> list[ContentPart]:
    parts = [part for found in content_blocks(message) for part in _parse_block(found)]
    words = str(message.text)
    if "".join([part.data["content"] for part in parts if part.type == "token"]) != words:
        parts = [part for part in parts if part.type != "token" or "blocks" in part.data]
        parts.append(text_part(words))
    return parts


def content_blocks(message: BaseMessage) -> list[Block]:
    """Return a message's standard content blocks; its own blocks where LangChain cannot translate them."""
    content: str | list[str | Block] = message.content
    if isinstance(content, list) and any(isinstance(each, str) for each in content):
        # translators leave plain texts between blocks out
        blocks = [{"type": "text", "text": each} if isinstance(each, str) else each for each in content]
        message = message.model_copy(update={"content": blocks})
    found: Iterable[object] = message.content if isinstance(message.content, list) else ()
    with contextlib.suppress(Exception):  # a translator may raise any error on a provider's block
        found = message.content_blocks
    return [cast("Block", each) for each in found if isinstance(each, dict)]


def parse_late_parts(message: AIMessage, sent: Collection[str]) -> list[ContentPart]:
    """Return the parts of a finished message whose kind no piece had, such as citations in its metadata.

    Args:
        message: The whole message.
        sent: Types of the blocks that were in its pieces; ``annotations`` means citations.
    """
    if not message.response_metadata and not message.additional_kwargs and isinstance(message.content, str):
        return []
    late: list[ContentPart] = []
    for found in content_blocks(message):
        kind = str(found.get("type"))
        if kind == "text":
            if "annotations" not in sent:
                late += _parse_block({**found, "text": ""})
        elif kind not in sent:
            late += [each for each in _parse_block(found) if each.type != "thinking" or "reasoning" not in sent]
    return late


def _parse_block(found: Mapping[str, Any]) -> Iterator[ContentPart]:
    kind = found.get("type")
    if kind == "text":
        words = found.get("text")
        if isinstance(words, str) and words:
            yield text_part(words)
        if found.get("annotations") or found.get("citations"):
            yield block_part({**found, "text": ""})
    elif kind == "reasoning":
        if words := get_reasoning(found):
            yield thinking_part(words)
    elif kind == "non_standard":
        yield from _parse_non_standard(found)
    elif kind not in _TOOL_CALLS and found.keys() - _BARE:
        yield block_part(dict(found))


def _parse_non_standard(found: Mapping[str, Any]) -> Iterator[ContentPart]:
    """Parse a block without a translator. Reasoning is recognized; any other block is passed through."""
    value: object = found.get("value")
    if not isinstance(value, Mapping):
        yield block_part(dict(found))
        return
    inner = cast("Mapping[str, Any]", value)
    if words := get_reasoning(inner):
        yield thinking_part(words)
    elif inner.get("type") not in _TOOL_CALLS and inner.keys() - _BARE:
        yield block_part(dict(found))


class EventReader:
    """Parser of one call's events of the content-block protocol (``version="v3"``).

    Tool calls and texts that arrived in deltas are not repeated when their block is finished.
    """

    __slots__ = ("_calls", "_texts")

    def __init__(self) -> None:
        self._calls: set[object] = set()
        self._texts: set[object] = set()

    def read(self, event: Mapping[str, Any]) -> Iterator[ContentPart]:
        """Yield the parts of one event."""
        index = event.get("index")
        match event.get("event"):
            case "content-block-delta":
                yield from self._parse_delta(event["delta"], index)
            case "content-block-start" if event["content"].get("type") == "tool_call_chunk":
                self._calls.add(index)
                found = event["content"]
                yield tool_args_part(found.get("id"), found.get("name"), found.get("args"), index)
            case "content-block-finish":
                yield from self._parse_finished(event["content"], index)
            case _:
                pass

    def _parse_delta(self, delta: Mapping[str, Any], index: object) -> Iterator[ContentPart]:
        match delta.get("type"):
            case "text-delta" if delta["text"]:
                self._texts.add(index)
                yield text_part(delta["text"])
            case "reasoning-delta" if delta["reasoning"]:
                self._texts.add(index)
                yield thinking_part(delta["reasoning"])
            case "tool-call-delta" if index in self._calls:
                yield tool_args_part(None, None, delta.get("args"), index)
            case _:
                pass  # of media and the provider's own tools the finished block has all

    def _parse_finished(self, found: Mapping[str, Any], index: object) -> Iterator[ContentPart]:
        kind = found.get("type")
        if kind in {"tool_call", "invalid_tool_call"}:
            if index not in self._calls:
                yield _parse_whole_call(found, cast("int", index))
        elif kind in {"text", "reasoning"} and index in self._texts:
            yield from _parse_block({**found, "text": "", "reasoning": ""})
        else:
            yield from _parse_block(found)
