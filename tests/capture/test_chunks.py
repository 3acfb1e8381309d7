"""Chunks as the providers' own clients give them: what a node yields, or relays with its emitter."""

from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk

from lg_streaming.chunks import parse_chunk

CITATION = {"type": "url_citation", "url": "https://example.com/rain"}


class Dumped(SimpleNamespace):
    """An object of a client's own class."""

    def model_dump(self, **options: Any) -> dict[str, Any]:
        return dict(vars(self))


def openai(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


CHUNKS: dict[str, tuple[object, list[tuple[str, dict[str, Any]]]]] = {
    "refusal of chat completions": (
        openai(refusal="No."),
        [("token", {"content": "", "blocks": [{"type": "refusal", "refusal": "No."}]})],
    ),
    "annotations of chat completions": (
        openai(content="It", annotations=[Dumped(**CITATION)]),
        [
            ("token", {"content": "It"}),
            ("token", {"content": "", "blocks": [{"type": "text", "text": "", "annotations": [CITATION]}]}),
        ],
    ),
    "refusal of responses": (
        {"type": "response.refusal.delta", "delta": "No."},
        [("token", {"content": "", "blocks": [{"type": "refusal", "refusal": "No."}]})],
    ),
    "annotation of responses": (
        {"type": "response.output_text.annotation.added", "annotation": CITATION},
        [("token", {"content": "", "blocks": [{"type": "text", "text": "", "annotations": [CITATION]}]})],
    ),
    "a call of responses": (
        {
            "type": "response.output_item.added",
            "output_index": 1,
            "item": {"type": "function_call", "call_id": "c", "name": "look"},
        },
        [("tool_args", {"tool_call_id": "c", "tool": "look", "args": "", "index": 1})],
    ),
    "its arguments": (
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
        [("tool_args", {"args": "{}", "index": 1})],
    ),
    "a citation of anthropic": (
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": CITATION}},
        [("token", {"content": "", "blocks": [{"type": "text", "text": "", "citations": [CITATION]}]})],
    ),
    "anthropic's own tool": (
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": Dumped(type="server_tool_use", id="s", name="web_search"),
        },
        [("token", {"content": "", "blocks": [{"type": "server_tool_use", "id": "s", "name": "web_search"}]})],
    ),
    "thinking of ollama": ({"message": {"content": "", "thinking": "Hm."}}, [("thinking", {"content": "Hm."})]),
    "thinking of mistral": (
        openai(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]),
        [("thinking", {"content": "Hm."})],
    ),
    "reasoning of deepseek through langchain": (
        AIMessageChunk(content="", additional_kwargs={"reasoning_content": "Hm."}),
        [("thinking", {"content": "Hm."})],
    ),
    "a call through langchain": (
        AIMessageChunk(
            content="",
            tool_call_chunks=[{"type": "tool_call_chunk", "id": "c", "name": "look", "args": "{", "index": 0}],
        ),
        [("tool_args", {"tool_call_id": "c", "tool": "look", "args": "{", "index": 0})],
    ),
    "an image": (
        {"content": [{"type": "image", "url": "u"}]},
        [("token", {"content": "", "blocks": [{"type": "image", "url": "u"}]})],
    ),
    "a signature": ({"content": [{"type": "thinking", "signature": "c2ln"}]}, []),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_the_parts_of_a_chunk(name: str) -> None:
    chunk, parts = CHUNKS[name]
    assert [tuple(part) for part in parse_chunk(chunk)] == parts
