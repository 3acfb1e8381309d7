"""Mistral's chat format: content is a text, or blocks with thinking and references."""

from tests.providers.server import Body, sse
from tests.providers.turns import Turn

MODEL = "mistral-stand-in"


class MistralChat:
    """``POST /chat/completions``."""

    def whole(self, turn: Turn, body: Body) -> Body:
        del body
        message: Body = {"role": "assistant", "content": "".join(turn.text)}
        if turn.reasoning:
            message["content"] = [_thinking("".join(turn.reasoning)), {"type": "text", "text": "".join(turn.text)}]
        if turn.citation:
            message["content"] = [_reference(piece, turn) for piece in turn.text]
        if turn.calls:
            message["tool_calls"] = _calls(turn)
        choice = {"index": 0, "message": message, "finish_reason": _reason(turn)}
        return {**_completion(turn), "choices": [choice], "usage": _usage(turn)}

    def stream(self, turn: Turn, body: Body) -> list[bytes]:
        del body
        deltas: list[Body] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": [_thinking(piece)]} for piece in turn.reasoning]
        for piece in turn.text:
            blocks = [_reference(piece, turn)] if turn.citation else [{"type": "text", "text": piece}]
            deltas.append({"content": blocks if turn.citation or turn.reasoning else piece})
        if turn.calls:
            deltas.append({"content": "", "tool_calls": _calls(turn)})
        chunks: list[Body] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        ending = {"index": 0, "delta": {"content": ""}, "finish_reason": _reason(turn)}
        chunks.append({"choices": [ending], "usage": _usage(turn)})
        return [*(sse({**_completion(turn), **chunk}) for chunk in chunks), sse("[DONE]")]

    def failure(self) -> bytes:
        return sse({"object": "error", "message": "Service unavailable.", "type": "internal_error", "code": "1000"})


def _completion(turn: Turn) -> Body:
    return {"id": f"cmpl-{turn.id}", "object": "chat.completion", "created": 1, "model": MODEL}


def _usage(turn: Turn) -> Body:
    given, made = turn.tokens
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def _reason(turn: Turn) -> str:
    return "length" if turn.cut_off else "tool_calls" if turn.calls else "stop"


def _thinking(text: str) -> Body:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _reference(text: str, turn: Turn) -> Body:
    return {"type": "reference", "reference_ids": [turn.citation], "text": text}


def _calls(turn: Turn) -> list[Body]:
    """Mistral sends each call whole."""
    return [
        {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.whole}}
        for index, call in enumerate(turn.calls)
    ]
