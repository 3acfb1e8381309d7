"""Cut one finished message into the chunks a streaming model would send for it."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCall, tool_call_chunk

Split = Callable[[str], Iterable[str]]
"""A function that splits a text; the joined pieces must be the text."""

_STREAMED_FIELD = {"text": "text", "reasoning": "reasoning", "thinking": "thinking"}
"""The text field of each type of content block that is streamed in pieces; other blocks are one chunk."""


def message_chunks(message: AIMessage, *, prompt: Sequence[BaseMessage], split: Split) -> Iterator[AIMessageChunk]:
    """Yield the chunks of `message`: thinking, text, tool calls, then one last chunk with the usage.

    Merged, they equal `message` in content, tool calls and metadata. Usage that the message does not
    carry itself is counted: a token is a piece of `split`.
    """
    pieces = 0
    for chunk in _content_chunks(message, split):
        pieces += 1
        yield chunk
    for index, call in enumerate(message.tool_calls):
        for chunk in _tool_chunks(call, index, split):
            pieces += 1
            yield chunk
    yield AIMessageChunk(
        content="",
        id=message.id,
        usage_metadata=message.usage_metadata or _count_usage(prompt, pieces, split),
        response_metadata=message.response_metadata,
        additional_kwargs=_other_kwargs(message),
        chunk_position="last",
    )


def _content_chunks(message: AIMessage, split: Split) -> Iterator[AIMessageChunk]:
    reasoning = message.additional_kwargs.get("reasoning_content")
    if isinstance(reasoning, str):
        for piece in split(reasoning):
            yield AIMessageChunk(content="", id=message.id, additional_kwargs={"reasoning_content": piece})
    if isinstance(message.content, str):
        for piece in split(message.content):
            yield AIMessageChunk(content=piece, id=message.id)
        return
    for index, block in enumerate(message.content):
        for part in _block_parts(block, index, split):
            yield AIMessageChunk(content=[part], id=message.id)


def _block_parts(block: str | dict[str, Any], index: int, split: Split) -> Iterator[dict[str, Any]]:
    whole = {"type": "text", "text": block} if isinstance(block, str) else block
    field = _STREAMED_FIELD.get(str(whole.get("type")))
    if field is None:
        yield {**whole, "index": index}
        return
    rest = {key: value for key, value in whole.items() if key not in (field, "type")}
    for number, piece in enumerate(split(str(whole[field]))):
        yield {"type": whole["type"], field: piece, "index": index, **(rest if number == 0 else {})}


def _tool_chunks(call: ToolCall, index: int, split: Split) -> Iterator[AIMessageChunk]:
    yield _tool_chunk(index, "", name=call["name"], call_id=call["id"])
    for piece in split(json.dumps(call["args"], ensure_ascii=False)):
        yield _tool_chunk(index, piece)


def _tool_chunk(index: int, args: str, *, name: str | None = None, call_id: str | None = None) -> AIMessageChunk:
    part = tool_call_chunk(name=name, args=args, id=call_id, index=index)
    return AIMessageChunk(content="", tool_call_chunks=[part])


def _other_kwargs(message: AIMessage) -> dict[str, Any]:
    kwargs = cast("dict[str, Any]", message.additional_kwargs)
    return {key: value for key, value in kwargs.items() if key != "reasoning_content"}


def _count_usage(prompt: Sequence[BaseMessage], pieces: int, split: Split) -> UsageMetadata:
    heard = sum(len(list(split(message.text))) for message in prompt)
    return UsageMetadata(input_tokens=heard, output_tokens=pieces, total_tokens=heard + pieces)
