"""Tools that return a `Command`: clients get the content of the tool's message, not the command."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langgraph.types import Command

from lg_streaming.codec import Codec, add_position
from lg_streaming.events import Scope
from lg_streaming.gateway.dialects.agui.reading import Reading
from lg_streaming.gateway.dialects.ai_sdk.encoder import Form, UiMessageStream
from lg_streaming.log.base import StoredUpdate
from tests.wires.agui.translating import stream
from tests.wires.ai_sdk.reader import Reader, chunks_of

FOUND: Any = Command(
    goto="next", update={"messages": [ToolMessage("other", tool_call_id="d"), ToolMessage("found", tool_call_id="c")]}
)


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (FOUND, "found"),
        (Command(update={"topic": "rain"}), None),
        ({"goto": "x", "update": {"messages": "y"}}, None),
        ({"update": {"messages": [{"type": "tool", "tool_call_id": "c", "content": "z"}]}}, None),
    ],
)
def test_the_output_is_the_content_of_the_calls_message(output: Any, shown: str | None) -> None:
    codec, scope = Codec(), Scope(run_id="r", node_id="tools", tool_call_id="c")
    records: list[StoredUpdate] = []
    for seq, name in enumerate(("tool_start", "tool_complete"), 1):
        data: dict[str, Any] = {"tool": "search", "tool_call_id": "c", "input": {}, "output": output}
        body = codec.encode("e", name, data, scope=scope, priority="medium", timestamp=1.0)
        records.append(StoredUpdate(name, scope, "medium", 1.0, add_position(body, seq, "1"), None, seq, "1"))
    encoder = UiMessageStream(Form(), run_id="r")
    chunks = encoder.encode("e", records).wire + encoder.on_end(None, run_is_over=True, state="completed")
    (part,) = Reader().read(chunks_of(chunks)).calls
    events = stream(records, Reading(thread_id="t", run_id="r", log_run_id=None)).events
    (result,) = [each["content"] for each in events if each["type"] == "TOOL_CALL_RESULT"]
    if shown is None:
        assert isinstance(part["output"], dict)
        assert result.startswith("{")
    else:
        assert (part["output"], result) == (shown, shown)
