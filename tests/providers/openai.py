"""OpenAI's two formats: Chat Completions and Responses."""

import itertools
from typing import Any

from tests.providers.server import Body, sse
from tests.providers.turns import Turn

MODEL = "gpt-stand-in"


def _usage(turn: Turn) -> Body:
    given, made = turn.tokens
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


class ChatCompletions:
    """``POST /v1/chat/completions``."""

    def whole(self, turn: Turn, body: Body) -> Body:
        texts = ["".join(turn.text), *turn.others][: body.get("n") or 1]
        choices = [
            {"index": n, "finish_reason": _reason(turn), "message": _message(text, turn)}
            for n, text in enumerate(texts)
        ]
        return {**_completion(turn, "chat.completion"), "choices": choices, "usage": _usage(turn)}

    def stream(self, turn: Turn, body: Body) -> list[bytes]:
        deltas: list[Body] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in turn.text]
        for index, call in enumerate(turn.calls):
            function = {"name": call.name, "arguments": ""}
            deltas.append({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})
            deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in call.args]
        if turn.refusal:
            deltas.append({"refusal": turn.refusal})
        chunks: list[Body] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        for index, other in enumerate(turn.others, 1):  # a request with n > 1 streams its answers interleaved
            if index < (body.get("n") or 1):
                chunks.insert(
                    2 * index, {"choices": [{"index": index, "delta": {"content": other}, "finish_reason": None}]}
                )
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": _reason(turn)}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            chunks.append({"choices": [], "usage": _usage(turn)})
        return [*(sse({**_completion(turn, "chat.completion.chunk"), **chunk}) for chunk in chunks), sse("[DONE]")]

    def failure(self) -> bytes:
        return sse({"error": {"message": "the server had an error", "type": "server_error", "code": "500"}})


def _completion(turn: Turn, kind: str) -> Body:
    return {"id": f"chatcmpl-{turn.id}", "object": kind, "created": 1, "model": MODEL}


def _reason(turn: Turn) -> str:
    return "length" if turn.cut_off else "tool_calls" if turn.calls else "stop"


def _message(text: str, turn: Turn) -> Body:
    message: Body = {"role": "assistant", "content": text or None, "refusal": turn.refusal}
    if turn.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.whole}}
            for call in turn.calls
        ]
    return message


class Responses:
    """``POST /v1/responses``."""

    def whole(self, turn: Turn, body: Body) -> Body:
        del body
        return _response(turn, output=[item for item, _ in _items(turn)])

    def stream(self, turn: Turn, body: Body) -> list[bytes]:
        numbers = itertools.count()
        events: list[bytes] = []

        def add(type: str, **data: Any) -> None:
            events.append(sse({"type": type, "sequence_number": next(numbers), **data}, type))

        add("response.created", response=_response(turn, status="in_progress", output=[]))
        for index, (item, deltas) in enumerate(_items(turn)):
            add("response.output_item.added", output_index=index, item=_opened(item))
            for kind, data in deltas:
                add(kind, item_id=item["id"], output_index=index, **data)
            add("response.output_item.done", output_index=index, item=item)
        ending = "response.incomplete" if turn.cut_off else "response.completed"
        add(ending, response=self.whole(turn, body))
        return events

    def failure(self) -> bytes:
        data = {"type": "error", "sequence_number": 99, "code": "server_error", "message": "overloaded", "param": None}
        return sse(data, "error")


def _response(turn: Turn, *, output: list[Body], status: str | None = None) -> Body:
    given, made = turn.tokens
    return {
        "id": f"resp_{turn.id}",
        "object": "response",
        "created_at": 1,
        "model": MODEL,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "status": status or ("incomplete" if turn.cut_off else "completed"),
        "incomplete_details": {"reason": "max_output_tokens"} if turn.cut_off else None,
        "output": output,
        "usage": {
            "input_tokens": given,
            "output_tokens": made,
            "total_tokens": given + made,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


Delta = tuple[str, Body]


def _opened(item: Body) -> Body:
    """An item as it is when it is added: without what its deltas bring."""
    empty: Body = {"summary": [], "content": [], "arguments": ""}
    return {**item, **{name: value for name, value in empty.items() if name in item}}


def _items(turn: Turn) -> list[tuple[Body, list[Delta]]]:
    items: list[tuple[Body, list[Delta]]] = []
    if turn.reasoning:
        part = {"type": "summary_text", "text": "".join(turn.reasoning)}
        at = {"summary_index": 0}
        deltas: list[Delta] = [("response.reasoning_summary_part.added", {**at, "part": {**part, "text": ""}})]
        deltas += [("response.reasoning_summary_text.delta", {**at, "delta": piece}) for piece in turn.reasoning]
        items.append(({"id": f"rs_{turn.id}", "type": "reasoning", "summary": [part]}, deltas))
    if turn.text or turn.refusal:
        items.append(_said(turn))
    for call in turn.calls:
        item = {"type": "function_call", "id": f"fc_{call.id}", "call_id": call.id, "name": call.name}
        pieces: list[Delta] = [("response.function_call_arguments.delta", {"delta": piece}) for piece in call.args]
        items.append(({**item, "arguments": call.whole, "status": "completed"}, pieces))
    return items


def _said(turn: Turn) -> tuple[Body, list[Delta]]:
    at = {"content_index": 0}
    item = {"id": f"msg_{turn.id}", "type": "message", "role": "assistant", "status": "completed"}
    if turn.refusal:
        deltas: list[Delta] = [
            ("response.refusal.delta", {**at, "delta": turn.refusal}),
            ("response.refusal.done", {**at, "refusal": turn.refusal}),
        ]
        return {**item, "content": [{"type": "refusal", "refusal": turn.refusal}]}, deltas
    text = "".join(turn.text)
    found = {"type": "url_citation", "url": turn.citation, "title": "Rain", "start_index": 0, "end_index": 5}
    annotations = [found] if turn.citation else []
    deltas = [("response.output_text.delta", {**at, "delta": piece, "logprobs": []}) for piece in turn.text]
    deltas += [
        ("response.output_text.annotation.added", {**at, "annotation_index": 0, "annotation": each})
        for each in annotations
    ]
    deltas.append(("response.output_text.done", {**at, "text": text, "logprobs": []}))
    return {**item, "content": [{"type": "output_text", "text": text, "annotations": annotations}]}, deltas
