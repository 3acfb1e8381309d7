"""Streams of the real packages: the text, the reasoning, the tool calls and the ids of the message in the result."""

from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from lg_streaming.module import StreamingModule
from tests.providers.models import ANTHROPIC, CHAT, MISTRAL, PACKAGES, RESPONSES, THINKING, WAYS, Package
from tests.providers.runs import plain, seen
from tests.providers.turns import CALLS, RAIN, TEXT_AND_CALLS, THOUGHT, Turn

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")

MAIN = (CHAT, RESPONSES["responses/v1"], ANTHROPIC["v0"], MISTRAL["v0"])
"""Each package in its usual form, called in every way; other forms are called in two."""

each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


def reasoning_of(message: AIMessage) -> str:
    found = [block for block in message.content_blocks if block["type"] == "reasoning"]
    return "".join(block.get("reasoning", "") for block in found)


def told(message: AIMessage) -> tuple[Any, ...]:
    """Return the parts of a message that streaming must not change."""
    return (message.text, reasoning_of(message), message.tool_calls, message.usage_metadata)


@pytest.mark.parametrize(
    ("package", "way"),
    [(package, way) for package in PACKAGES for way in WAYS if package in MAIN or way in {"ainvoke", "stream"}],
    ids=lambda value: getattr(value, "name", value),
)
async def test_the_streamed_text_has_the_id_of_the_message(
    streaming: StreamingModule, package: Package, way: str
) -> None:
    turns = [replace(RAIN, id=str(number)) for number in (1, 2)]
    found = await seen(streaming, package, WAYS[way], *turns)
    assert found.texts() == {message.id: "It rains in the mountains." for message in found.messages}
    assert len(found.run.of("token")) >= 2 * len(found.messages)  # the first piece at once, others maybe joined
    assert {update.metadata.message_id for update in found.run.of("llm_complete")} == set(found.texts())
    assert all("replaces" not in update.data for update in found.run.of("llm_complete"))
    if not way.endswith("batch"):
        messages = await plain(package, WAYS[way], *turns)
        assert [told(message) for message in messages] == [told(message) for message in found.messages]


@each_package
@pytest.mark.parametrize("way", ["invoke", "astream", "events"])
@pytest.mark.parametrize("turn", [CALLS, TEXT_AND_CALLS], ids=["calls", "text and calls"])
async def test_the_pieces_of_parallel_tool_calls_join_to_their_arguments(
    streaming: StreamingModule, package: Package, way: str, turn: Turn
) -> None:
    found = await seen(streaming, package, WAYS[way], turn)
    calls = list(found.calls().values())
    assert [(call["tool_call_id"], call["tool"], call["args"]) for call in calls] == [
        (call["id"], call["name"], call["args"]) for call in found.message.tool_calls
    ]
    assert {message_id for message_id, _ in found.calls()} == {found.message.id}
    assert found.texts() == ({found.message.id: found.message.text} if turn.text else {})
    assert [told(message) for message in await plain(package, WAYS[way], turn)] == [told(found.message)]


@pytest.mark.parametrize("package", THINKING, ids=lambda package: package.name)
@pytest.mark.parametrize("way", ["ainvoke", "stream", "events"])
async def test_reasoning_is_thinking(streaming: StreamingModule, package: Package, way: str) -> None:
    found = await seen(streaming, package, WAYS[way], THOUGHT)
    assert "".join(found.texts("thinking").values()) == "Let me think about it." == reasoning_of(found.message)
    assert found.texts() == {found.message.id: "It rains."}
    assert found.blocks() == []
    complete = found.run.one("llm_complete")
    earlier = [message_id for message_id in found.texts("thinking") if message_id != found.message.id]
    assert complete.data.get("replaces", []) == earlier
    assert complete.metadata.message_id == found.message.id


async def test_reasoning_that_leaves_before_the_id_is_known_is_mapped(streaming: StreamingModule) -> None:
    """In its old format the Responses API gives the message's id after the reasoning."""
    found = await seen(streaming, RESPONSES["v0"], WAYS["ainvoke"], THOUGHT)
    (early,) = found.texts("thinking")
    assert early is not None
    assert early.startswith("lc_run--")
    assert found.message.id == "msg_1"
    assert found.run.one("llm_complete").data["replaces"] == [early]


@pytest.mark.parametrize(
    "package", [*RESPONSES.values(), *ANTHROPIC.values(), *MISTRAL.values()], ids=lambda package: package.name
)
@pytest.mark.parametrize("way", ["ainvoke", "stream", "events"])
async def test_citations_are_blocks(streaming: StreamingModule, package: Package, way: str) -> None:
    found = await seen(streaming, package, WAYS[way], replace(RAIN, citation="https://example.com/rain"))
    assert found.texts() == {found.message.id: "It rains in the mountains."}
    blocks = found.blocks("text")
    assert blocks
    assert all(block["text"] == "" for block in blocks)
    assert "https://example.com/rain" in str([block["annotations"] for block in blocks])


@pytest.mark.parametrize("package", [*RESPONSES.values(), *ANTHROPIC.values()], ids=lambda package: package.name)
@pytest.mark.parametrize("way", ["ainvoke", "stream", "events"])
async def test_a_refusal_is_a_block(streaming: StreamingModule, package: Package, way: str) -> None:
    found = await seen(streaming, package, WAYS[way], Turn(refusal="I cannot help with that."))
    assert [block["type"] for block in found.blocks()] == ["refusal"]
    assert found.texts() == {}
    if package.name.startswith("responses"):
        assert found.blocks()[0]["refusal"] == "I cannot help with that."


async def test_a_refusal_of_chat_completions_comes_with_structured_output(streaming: StreamingModule) -> None:
    schema: dict[str, Any] = {
        "name": "answer",
        "schema": {"type": "object", "properties": {}, "additionalProperties": False},
    }
    options: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": schema}}

    async def ask(model: Any) -> list[AIMessage]:
        return [await model.bind(**options).ainvoke("go")]

    turn = Turn(refusal="I cannot help with that.")
    found = await seen(streaming, CHAT, ask, turn)
    (expected,) = await plain(CHAT, ask, turn)
    assert found.message.additional_kwargs["refusal"] == expected.additional_kwargs["refusal"] == turn.refusal
    assert [block["refusal"] for block in found.blocks("refusal")] == [turn.refusal]


@pytest.mark.parametrize("cut_off", [False, True])
@each_package
async def test_the_reason_of_the_end_and_the_usage(
    streaming: StreamingModule, package: Package, *, cut_off: bool
) -> None:
    found = await seen(streaming, package, WAYS["ainvoke"], replace(RAIN, cut_off=cut_off))
    kind = package.name.split()[0]
    reasons = {
        "chat": ("stop", "length"),
        "responses": ("completed", "max_output_tokens"),
        "anthropic": ("end_turn", "max_tokens"),
        "mistral": ("stop", "length"),
    }
    data = found.run.one("llm_complete").data
    assert data["finish_reason"] == reasons[kind][cut_off]
    assert data["usage"] == found.message.usage_metadata
    assert (data["usage"]["input_tokens"], data["usage"]["output_tokens"]) == (11, 7)


@pytest.mark.parametrize("package", [CHAT, RESPONSES["v0"], ANTHROPIC["v0"], MISTRAL["v0"]], ids=lambda each: each.name)
async def test_a_model_that_is_not_to_stream_comes_whole(streaming: StreamingModule, package: Package) -> None:
    turn = TEXT_AND_CALLS if package is CHAT else replace(TEXT_AND_CALLS, reasoning=THOUGHT.reasoning)
    found = await seen(streaming, package, WAYS["ainvoke"], turn, disable_streaming=True)
    assert not found.provider.requests[0].get("stream")
    assert found.texts() == {found.message.id: "Let me look."}
    assert [call["args"] for call in found.calls().values()] == [call["args"] for call in found.message.tool_calls]
    assert "".join(found.texts("thinking").values()) == "".join(turn.reasoning)
