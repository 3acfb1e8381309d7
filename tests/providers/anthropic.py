"""Anthropic's Messages format."""

import json

from tests.providers.server import Body, sse
from tests.providers.turns import Turn

MODEL = "claude-stand-in"
Delta = Body


class Messages:
    """``POST /v1/messages``."""

    def whole(self, turn: Turn, body: Body) -> Body:
        del body
        given, made = turn.tokens
        return {
            **_opened(turn),
            "content": [block for _, block, _ in _blocks(turn)],
            "stop_reason": _reason(turn),
            "usage": {"input_tokens": given, "output_tokens": made},
        }

    def stream(self, turn: Turn, body: Body) -> list[bytes]:
        del body
        events: list[Body] = [{"type": "message_start", "message": _opened(turn)}]
        for index, (opened, _, deltas) in enumerate(_blocks(turn)):
            events.append({"type": "content_block_start", "index": index, "content_block": opened})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        ending = {"stop_reason": _reason(turn), "stop_sequence": None}
        events.append(
            {
                "type": "message_delta",
                "delta": ending,
                "usage": {"input_tokens": turn.tokens[0], "output_tokens": turn.tokens[1]},
            }
        )
        events.append({"type": "message_stop"})
        return [sse(event, str(event["type"])) for event in events]

    def failure(self) -> bytes:
        return sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")


def _reason(turn: Turn) -> str:
    return "refusal" if turn.refusal else "max_tokens" if turn.cut_off else "tool_use" if turn.calls else "end_turn"


def _opened(turn: Turn) -> Body:
    return {
        "id": f"msg_{turn.id}",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": turn.tokens[0], "output_tokens": 0},
    }


def _blocks(turn: Turn) -> list[tuple[Body, Body, list[Delta]]]:
    """Each block as it is opened, as it is in the end, and the deltas between."""
    blocks: list[tuple[Body, Body, list[Delta]]] = []
    if turn.reasoning:
        deltas: list[Delta] = [{"type": "thinking_delta", "thinking": piece} for piece in turn.reasoning]
        deltas.append({"type": "signature_delta", "signature": "c2ln"})
        opened = {"type": "thinking", "thinking": "", "signature": ""}
        blocks.append((opened, {**opened, "thinking": "".join(turn.reasoning), "signature": "c2ln"}, deltas))
    if turn.text:
        cited = {
            "type": "web_search_result_location",
            "url": turn.citation,
            "title": "Rain",
            "cited_text": "It rains.",
            "encrypted_index": "eA==",
        }
        block: Body = {"type": "text", "text": "".join(turn.text)}
        deltas = [{"type": "text_delta", "text": piece} for piece in turn.text]
        if turn.citation:
            block["citations"] = [cited]
            deltas.insert(0, {"type": "citations_delta", "citation": cited})
        blocks.append(({"type": "text", "text": ""}, block, deltas))
    for call in turn.calls:
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.whole)}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in call.args]
        blocks.append(({**block, "input": {}}, block, deltas))
    return blocks
