"""Runs whose every text is hostile: markup, scripts, escape sequences, codes that reorder text, words without end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from lg_streaming import StreamHub
from lg_streaming.events.scope import Scope

__all__ = ["HOSTILE", "LONG_WORD", "hostile_run", "odd_run", "odd_updates"]

LONG_WORD: Final = "x" * 100_000
HOSTILE: Final = {
    "markup": '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script><b>bold</b>',
    "attribute": '"><svg onload=window.hacked=1>\' autofocus onfocus=window.hacked=1 x="',
    "link": "[click](javascript:window.hacked=1) <javascript:window.hacked=1> ![p](https://evil.example/p.png)",
    "address": "javascript:window.hacked=1",
    "template": "${window.hacked=1} {{constructor.constructor('window.hacked=1')()}} <!-- --> ]]> &lt;b&gt; &#x202e;",
    "escapes": "\x1b[2J\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x07 \x9b31m",
    "bidi": "invoice\u202egnp.exe \u2066\u2067fdp\u2069 \u200f\u061c end",
    "codes": "a\x00b\x08c\x7fd\u2028e\u2029f\rg",
    "half": "half \ud83d \udc00 end",
    "rtl": "שלום <b>עולם</b> 123 مرحبا",
}
"""Hostile texts by kind."""


async def hostile_run(
    hub: StreamHub, execution_id: str, text: str, *, name: str | None = None, is_open: bool = True
) -> None:
    """Publish a run with this text in each place that a page shows; names of nodes and tools may be another one."""
    name = text if name is None else name
    hub.open(execution_id, owner=text[:200] if text.isprintable() else None, metadata={"title": text, "note": text})
    run = Scope(node_id=name, namespace=f"{name}:1", agent_type=name, message_id="m1", attempt=1)

    def publish(type: str, data: dict[str, Any], scope: Scope = run) -> None:
        hub.publish(execution_id, type, data, scope=scope, large="shorten")

    publish("node_start", {"node_name": name})
    publish("thinking", {"content": text, "message_id": "m0"}, run.derive(message_id="m0"))
    publish("token", {"content": f"{text} ", "message_id": "m1"})
    publish("token", {"content": text, "message_id": "m1"})
    publish("progress", {"progress": 40, "text": text})
    publish("milestone", {"milestone": text})
    publish("status", {"status": text, "text": text})
    call = {"tool": name, "tool_call_id": "c1"}
    publish("tool_start", {**call, "input": {text[:100]: text, "url": text}})
    publish("tool_complete", {**call, "output": {"answer": [text]}})
    publish("tool_start", {"tool": name, "tool_call_id": "c2", "input": text})
    publish("tool_error", {"tool": name, "tool_call_id": "c2", "error": {"type": text, "message": text}})
    publish("usage", {"model": name, "input_tokens": 1, "output_tokens": 1, "total_tokens": 2})
    publish("custom", {text[:100]: text})
    publish(
        "human_prompt",
        {"prompt_id": "p1", "prompt": text, "type": "choice", "choices": [text, "other"], "value": {"a": text}},
    )
    publish("node_error", {"error": {"type": text, "message": text}})
    if not is_open:
        await hub.fail(execution_id, RuntimeError(text))


_TYPES: Final = """
    workflow_progress workflow_interrupted node_start llm_start token thinking message tool_args tool_start
    tool_complete tool_error tool_interrupted tool_unheard progress milestone status usage llm_complete llm_error
    human_prompt human_response custom source_documents artifacts state values log error metadata used_tools node_cached
    node_interrupted node_error node_complete constructor toString __proto__ valueOf
"""
_FIELDS: Final = """
    prompt_id prompt type choices value schema expires_at message_id tool_call_id tool input output args index content
    blocks text progress total eta_s milestone status place usage model input_tokens output_tokens total_tokens cost
    interrupts prompts duration_s error will_retry node_name metadata reason data message level batch_size replaces
    result default response responded_by required namespace node_id paused name completed_nodes total_nodes
"""
_ODD: Final[list[Any]] = [
    *(None, -1.5e300, 1e300, "odd", True, [], [None], [1], {}),
    {"a": {"b": [{"c": None}]}},
    {"__proto__": {"x": 1}, "constructor": None, "toString": 3},
]


def odd_updates() -> Iterator[tuple[str, Any]]:
    """Yield each type with data of another shape, and with all known fields of another type."""
    for odd in _ODD:
        for data in (
            odd,
            dict.fromkeys(_FIELDS, odd),
            {"error": {"message": odd, "causes": odd, "errors": [odd, odd]}},
        ):
            for kind in _TYPES:
                yield kind, data


def odd_run(hub: StreamHub, execution_id: str) -> None:
    """Publish odd updates in a node and outside, and then a text."""
    hub.open(execution_id)
    places = [Scope(node_id="n", namespace="n:1", message_id="m1", attempt=1), Scope()]
    hub.publish(execution_id, "node_start", {"node_name": "n"}, scope=places[0])
    for kind, data in odd_updates():
        for scope in places:
            hub.publish(execution_id, kind, data, scope=scope)
    hub.publish(execution_id, "token", {"content": "The end."}, scope=Scope(node_id="last", namespace="last:1"))
