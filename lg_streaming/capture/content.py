"""What a model's chunk holds: text, reasoning, tool call arguments, and other content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessageChunk, BaseMessage

from lg_streaming.chunks import Part, text, thinking, tool_args

__all__ = ["parts_of_event", "parts_of_message"]


def parts_of_message(message: BaseMessage) -> Iterator[Part]:
    """The parts of a message or a chunk of one, in order. Joined, the texts are exactly the message's text."""
    if message.additional_kwargs:
        reasoning = message.additional_kwargs.get("reasoning_content")
        if isinstance(reasoning, str) and reasoning:
            yield thinking(reasoning)
    content: str | Sequence[str | dict[str, Any]] = message.content
    if isinstance(content, str):
        if content:
            yield text(content)
    else:
        for block in content:
            yield from _parts_of_block(block)
    if isinstance(message, AIMessageChunk):
        for chunk in message.tool_call_chunks:
            yield tool_args(chunk.get("id"), chunk.get("name"), chunk.get("args"), chunk.get("index"))
    else:
        for call in getattr(message, "tool_calls", ()):
            yield tool_args(call.get("id"), call.get("name"), call.get("args"), None)


_TOOL_BLOCKS = frozenset({"tool_call", "tool_call_chunk", "tool_use", "input_json_delta", "function_call"})
"""Blocks that say what ``tool_call_chunks`` says again."""


def _parts_of_block(block: str | Mapping[str, Any]) -> Iterator[Part]:
    if isinstance(block, str):
        if block:
            yield text(block)
        return
    kind = block.get("type")
    if kind in {"text", "text_delta"}:
        if words := block.get("text"):
            yield text(words)
    elif kind in {"reasoning", "thinking", "reasoning_content"}:
        words = block.get("reasoning") or block.get("thinking") or block.get("text")
        if isinstance(words, str) and words:
            yield thinking(words)
    elif kind not in _TOOL_BLOCKS:
        yield Part("token", {"content": "", "blocks": [dict(block)]})


def parts_of_event(event: Mapping[str, Any]) -> Iterator[Part]:
    """The parts of one event of the content-block protocol (``astream_events(version="v3")``)."""
    match event.get("event"):
        case "content-block-delta":
            yield from _parts_of_delta(event["delta"], event.get("index"))
        case "content-block-start" if event["content"].get("type") == "tool_call_chunk":
            block = event["content"]
            yield tool_args(block.get("id"), block.get("name"), block.get("args"), event.get("index"))
        case "content-block-finish" if event["content"].get("type") not in _STREAMED_BLOCKS:
            yield from _parts_of_block(event["content"])
        case _:
            pass


_STREAMED_BLOCKS = _TOOL_BLOCKS | {"text", "reasoning", "invalid_tool_call"}
"""Blocks whose content came in deltas; all others come whole, at their finish."""


def _parts_of_delta(delta: Mapping[str, Any], index: object) -> Iterator[Part]:
    match delta.get("type"):
        case "text-delta" if delta["text"]:
            yield text(delta["text"])
        case "reasoning-delta" if delta["reasoning"]:
            yield thinking(delta["reasoning"])
        case "tool-call-delta":
            yield tool_args(None, None, delta.get("args"), index)
        case _:
            pass
