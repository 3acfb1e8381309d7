"""Text that a node returns and no model wrote: its readers get it once, under the id the message has in the state."""

from typing import Any, cast

import pytest
from langchain_core.language_models import FakeListLLM, FakeStreamingListLLM
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from pydantic import BaseModel

from lg_streaming import current_emitter, stream_all, stream_token
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.capture.graphs import TEXT, model, read

Node = Any


async def texts_of(
    streaming: StreamingModule, node: Node, state: Any = None
) -> tuple[dict[str | None, str], list[Any]]:
    """The text of each message as readers get it, and the messages in the state at the end."""
    graph: Any = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
    result = await graph.ainvoke(state or {"messages": "hi"}, streaming.config("e"))
    run = await read(streaming, "e")
    return run.texts(by=lambda update: update.metadata.message_id), result["messages"]


async def returns_a_canned_answer(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("We are closed.")]}


async def returns_one_with_an_id(state: MessagesState) -> dict[str, Any]:
    return {"messages": AIMessage("We are closed.", id="canned")}


def returns_a_command(state: MessagesState) -> Command[Any]:
    return Command(update={"messages": [AIMessage("We are closed.")]})


async def asks_a_silent_model_first(state: MessagesState) -> dict[str, Any]:
    await model("billing").with_config(tags=["nostream"]).ainvoke("route")
    return {"messages": [AIMessage("We are closed.")]}


async def adds_to_what_a_model_wrote(state: MessagesState) -> dict[str, Any]:
    answer = await model().ainvoke("go")
    return {"messages": [answer, AIMessage("We are closed.")]}


async def asks_for_structure_first(state: MessagesState) -> dict[str, Any]:
    calls = [{"name": "Route", "args": {"to": "billing"}, "id": "r1"}]
    await ScriptedChatModel(answers=[AIMessage("", tool_calls=calls)]).ainvoke("route")
    return {"messages": [AIMessage("We are closed.")]}


async def asks_a_model_that_only_thinks_first(state: MessagesState) -> dict[str, Any]:
    thought = AIMessage([{"type": "reasoning", "reasoning": "Are we closed?"}])
    await ScriptedChatModel(answers=[thought]).ainvoke("route")
    return {"messages": [AIMessage("We are closed.")]}


def asks_two_models_for_structure_first(state: MessagesState) -> dict[str, Any]:
    calls = [{"name": "Route", "args": {"to": "billing"}, "id": "r1"}]
    ScriptedChatModel(answers=[AIMessage("", tool_calls=calls)]).batch(["route", "route"])
    return {"messages": [AIMessage("We are closed.", id="canned")]}


@pytest.mark.parametrize(
    "node",
    [
        asks_for_structure_first,
        asks_a_model_that_only_thinks_first,
        asks_two_models_for_structure_first,
        returns_a_canned_answer,
        returns_one_with_an_id,
        returns_a_command,
        asks_a_silent_model_first,
    ],
)
async def test_a_message_that_no_model_wrote_is_streamed(streaming: StreamingModule, node: Node) -> None:
    texts, messages = await texts_of(streaming, stream_token(node))
    assert texts == {messages[-1].id: "We are closed."}


async def test_it_comes_beside_what_a_model_wrote(streaming: StreamingModule) -> None:
    texts, messages = await texts_of(streaming, stream_token(adds_to_what_a_model_wrote))
    assert list(texts.values()) == [TEXT, "We are closed."]
    assert list(texts) == [message.id for message in messages[1:]]


async def returns_the_answer_in_a_message_of_its_own(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage((await model().ainvoke("go")).text)]}


async def wraps_what_a_text_model_wrote(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(await FakeListLLM(responses=[TEXT]).ainvoke("go"))]}


def wraps_what_a_text_model_streamed(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("".join(FakeStreamingListLLM(responses=[TEXT]).stream("go")))]}


async def wraps_what_came_as_events(state: MessagesState) -> dict[str, Any]:
    stream = await cast("Any", model()).astream_events("go", version="v3")
    return {"messages": [AIMessage("".join([piece async for piece in stream.text]))]}


async def returns_the_history(state: MessagesState) -> dict[str, Any]:
    return {"messages": [*state["messages"], await model().ainvoke("go")]}


async def writes_by_itself(state: MessagesState) -> dict[str, Any]:
    for word in TEXT.split(" "):
        current_emitter().token(f"{word} ")
    return {"messages": [AIMessage(TEXT)]}


async def calls_a_decorated_function(state: MessagesState) -> dict[str, Any]:
    @stream_token
    async def answer() -> AIMessage:
        return await model().ainvoke("go")

    return {"messages": [await answer()]}


@pytest.mark.filterwarnings("ignore:The method `BaseChatModel._achat_model_stream_v3`")
@pytest.mark.parametrize(
    "node",
    [
        returns_the_answer_in_a_message_of_its_own,
        wraps_what_a_text_model_wrote,
        wraps_what_a_text_model_streamed,
        wraps_what_came_as_events,
        returns_the_history,
        writes_by_itself,
        calls_a_decorated_function,
    ],
)
async def test_what_readers_have_is_not_streamed_again(streaming: StreamingModule, node: Node) -> None:
    history = {"messages": [HumanMessage("hi", id="1"), AIMessage("An old answer.", id="2")]}
    texts, _ = await texts_of(streaming, stream_token(node), history)
    assert [text.strip() for text in texts.values()] == [TEXT]


async def test_what_a_node_inside_returned_is_not_streamed_again_by_the_one_around_it(
    streaming: StreamingModule,
) -> None:
    inner: Any = StateGraph(MessagesState).add_node("inner", returns_a_canned_answer).add_edge(START, "inner").compile()
    texts, messages = await texts_of(streaming, stream_all(inner))
    assert texts == {messages[-1].id: "We are closed."}


class Chat(BaseModel):
    messages: list[Any] = []


async def test_a_state_with_fields_is_known_too(streaming: StreamingModule) -> None:
    old = AIMessage("An old answer.", id="2")

    @stream_token
    async def node(state: Chat) -> dict[str, Any]:
        return {"messages": [*state.messages, AIMessage("A new one.", id="3")]}

    graph: Any = StateGraph(Chat).add_node("node", node).add_edge(START, "node").compile()
    await graph.ainvoke(Chat(messages=[old]), streaming.config("e"))
    assert (await read(streaming, "e")).texts() == {"node": "A new one."}
