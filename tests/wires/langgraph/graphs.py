"""The graphs that the clients start. The first word of the last message picks what the graph `agent` does.

LangChain's own development server loads this file too. It has its own checkpointer, so `agent` and `other` have none.

A word `|name|` in an answer is a gate: the model waits there until `open_gate(name)`, or the client, makes a file of
that name. So a client knows how far a run is when the words before the gate have come.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import RetryPolicy, interrupt
from typing_extensions import TypedDict

from lg_streaming.testing import ScriptedChatModel

__all__ = ["State", "agent", "builder", "open_gate", "other", "writer"]

POLL = 0.005
"""Seconds between two looks at a gate."""


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    note: str


async def gate(name: str) -> None:
    """Wait until a gate is open."""
    place = Path(os.environ["GATES"]) / name
    while not await asyncio.to_thread(place.exists):
        await asyncio.sleep(POLL)


def open_gate(folder: Path, name: str) -> None:
    """Let a model go on behind a gate."""
    (folder / name).touch()


def words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+", text)


class GatedModel(ScriptedChatModel):
    """A scripted model that waits at each gate in its answer."""

    split: Callable[[str], list[str]] = words

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in super()._astream(messages, *args, **kwargs):
            word = chunk.text.strip()
            if word.startswith("|"):
                await gate(word.strip("|"))
            else:
                yield chunk


def asked(messages: Sequence[BaseMessage]) -> tuple[str, str]:
    """The first word of the last human message, and what follows it."""
    text = next(str(each.text) for each in reversed(messages) if each.type == "human")
    word, _, rest = text.partition(" ")
    return word, rest


def repeat(messages: Sequence[BaseMessage]) -> AIMessage:
    return AIMessage(asked(messages)[1])


def use_tool(messages: Sequence[BaseMessage]) -> AIMessage:
    if messages[-1].type == "tool":
        return AIMessage(f"It is {messages[-1].text}.")
    call = {"name": "weather", "args": {"city": asked(messages)[1] or "Oslo"}, "id": f"call-{len(messages)}"}
    return AIMessage("", tool_calls=[call])


def reason(messages: Sequence[BaseMessage]) -> AIMessage:
    thought = {"type": "reasoning", "reasoning": "Let me think."}
    return AIMessage([thought, {"type": "text", "text": asked(messages)[1] or "Done thinking."}])


def reason_beside(messages: Sequence[BaseMessage]) -> AIMessage:
    return AIMessage(asked(messages)[1], additional_kwargs={"reasoning_content": "Hm, so."})


def numbers(_: Sequence[BaseMessage]) -> AIMessage:
    return AIMessage("".join(f"w{n} " for n in range(3000)))


repeating = GatedModel(answers=repeat)
acting = GatedModel(answers=use_tool)
reasoning = GatedModel(answers=reason)
reasoning_beside = GatedModel(answers=reason_beside)
counting = GatedModel(answers=numbers)


async def plan(state: Any) -> dict[str, Any]:
    """Do nothing: a step before all others."""
    return {"note": asked(state["messages"])[0]}


def which(state: Any) -> str | list[str]:
    word = asked(state["messages"])[0]
    both = {"two": ["ask_a", "ask_b"], "both": ["left", "right"]}
    return both.get(word) or (word if word in NODES else "say")


def answering(model: ScriptedChatModel) -> Any:
    async def answer(state: Any, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"], config)]}

    return answer


@tool
async def weather(city: str) -> str:
    """Return the weather of a city."""
    await asyncio.sleep(0)
    return f"sunny in {city}"


def after_tool(state: Any) -> str:
    last = state["messages"][-1]
    return "tools" if isinstance(last, AIMessage) and last.tool_calls else END


async def custom(state: Any) -> dict[str, Any]:
    write = get_stream_writer()
    write({"step": 1})
    write("plain")
    return {"note": "customized", "messages": [AIMessage("made by hand", id=None)]}


async def ask(state: Any) -> dict[str, Any]:
    answer = interrupt({"question": "Go on?"})
    return {"messages": [AIMessage(f"answer: {answer}")], "note": str(answer)}


async def ask_a(state: Any) -> dict[str, Any]:
    return {"messages": [AIMessage(f"a: {interrupt({'question': 'a?'})}")]}


async def ask_b(state: Any) -> dict[str, Any]:
    return {"messages": [AIMessage(f"b: {interrupt({'question': 'b?'})}")]}


async def big(state: Any) -> dict[str, Any]:
    return {"messages": [AIMessage("x" * 100_000, id="big")]}


async def fail(state: Any, config: RunnableConfig) -> dict[str, Any]:
    await repeating.ainvoke(state["messages"], config)
    raise ValueError("boom")


failed = set[str]()


class UnluckyError(Exception):
    """The failure of a first try."""


async def retry(state: Any, config: RunnableConfig) -> dict[str, Any]:
    """Fail at the first try, after the model's answer."""
    answer = await repeating.ainvoke(state["messages"], config)
    thread = str(config.get("configurable", {}).get("thread_id"))
    if thread not in failed:
        failed.add(thread)
        raise UnluckyError("at the first try")
    return {"messages": [answer]}


async def first(state: Any) -> dict[str, Any]:
    return {"note": "first"}


async def second(state: Any, config: RunnableConfig) -> dict[str, Any]:
    return {"note": "second", "messages": [await repeating.ainvoke(state["messages"], config)]}


child = StateGraph(State)
child.add_node("inner", answering(repeating))
child.add_node("after", first)
child.add_edge(START, "inner")
child.add_edge("inner", "after")

deep = StateGraph(State)
deep.add_node("before", first)
deep.add_node("ask", ask)
deep.add_edge(START, "before")
deep.add_edge("before", "ask")

NODES = {
    "say": answering(repeating),
    "think": answering(reasoning),
    "ponder": answering(reasoning_beside),
    "count": answering(counting),
    "tool": answering(acting),
    "custom": custom,
    "child": child.compile(),
    "deep": deep.compile(),
    "ask": ask,
    "big": big,
    "fail": fail,
    "retry": retry,
    "steps": first,
}

builder = StateGraph(State)
builder.add_node("plan", plan)
for name, node in NODES.items():
    builder.add_node(name, node, retry_policy=RetryPolicy(initial_interval=0.001) if name == "retry" else None)
builder.add_node("tools", ToolNode([weather]))
builder.add_node("ask_a", ask_a)
builder.add_node("ask_b", ask_b)
builder.add_node("left", answering(repeating))
builder.add_node("right", answering(repeating))
builder.add_node("second", second)
builder.add_edge(START, "plan")
builder.add_conditional_edges("plan", which, [*NODES, "ask_a", "ask_b", "left", "right"])
builder.add_conditional_edges("tool", after_tool, ["tools", END])
builder.add_edge("tools", "tool")
builder.add_edge("steps", "second")

agent = builder.compile(name="agent")
writer = StateGraph(State).add_node("write", answering(repeating)).add_edge(START, "write")
other = writer.compile(name="other")
