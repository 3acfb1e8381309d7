"""Graphs whose runs the page's tests watch."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict, cast

from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy, Send

from lg_streaming.testing import ScriptedChatModel

__all__ = ["FINDING", "agent", "branches", "failing", "gated", "guarded", "retried", "stuck", "team"]

FINDING = "It **rains** in Bergen.\n\n- take a coat\n"


class Work(TypedDict, total=False):
    """State of the graphs."""

    count: int
    number: int
    done: Annotated[list[int], operator.add]


@tool
def look_up(city: str) -> str:
    """Look up the weather."""
    return f"rain in {city}"


def _call(name: str, call_id: str, **args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": call_id}])


def agent() -> Any:
    """An agent that thinks, calls a tool, and answers."""
    answer = AIMessage([{"type": "reasoning", "reasoning": "A coat?"}, {"type": "text", "text": FINDING}])
    model = ScriptedChatModel(answers=[_call("look_up", "call-1", city="Bergen"), answer])
    return cast("Any", create_agent(model, [look_up], name="weather"))


def team() -> Any:
    """An agent that asks another agent by a tool."""
    inner = agent()

    @tool
    async def ask_expert(question: str) -> str:
        """Ask the expert."""
        outcome = await inner.ainvoke({"messages": [("user", question)]})
        return str(outcome["messages"][-1].text)

    model = ScriptedChatModel(answers=[_call("ask_expert", "call-2", question="Bergen?"), "Take a coat."])
    return cast("Any", create_agent(model, [ask_expert], name="lead"))


def guarded(*, calls: int = 1) -> Any:
    """An agent whose tool calls a person reviews."""

    @tool
    def refund(amount: int, reason: str) -> str:
        """Refund an amount."""
        return f"refunded {amount} for {reason}"

    tools: list[BaseTool] = [refund]
    wanted = [
        {"name": "refund", "args": {"amount": 100 + n, "reason": "late"}, "id": f"call-{n}"} for n in range(calls)
    ]
    model = ScriptedChatModel(answers=[AIMessage("", tool_calls=wanted), "Done."])
    middleware = [HumanInTheLoopMiddleware(interrupt_on={"refund": True})]
    return cast("Any", create_agent(model, tools, middleware=middleware, checkpointer=InMemorySaver()))


def branches(count: int) -> Any:
    """Parallel branches."""

    async def work(state: Work) -> Work:
        return {"done": [state.get("number", 0)]}

    async def split(state: Work) -> Work:
        return {}

    def send(_: Work) -> list[Send]:
        return [Send("work", {"number": number}) for number in range(count)]

    graph = StateGraph(Work).add_node("split", split).add_node("work", work).add_edge(START, "split")
    return graph.add_conditional_edges("split", send, ["work"]).compile()


def retried() -> Any:
    """A node that fails once, and is visited three times."""
    calls = 0

    async def step(state: Work) -> Work:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError("the line was cut")
        return {"count": state.get("count", 0) + 1}

    graph = StateGraph(Work).add_node("step", step, retry_policy=RetryPolicy(initial_interval=0.01))
    graph.add_edge(START, "step")

    def again(state: Work) -> str:
        return "step" if state.get("count", 0) < 3 else END

    return graph.add_conditional_edges("step", again).compile()


def failing() -> Any:
    """A node that fails with a cause while another is at work."""

    async def boom(state: Work) -> Work:
        await asyncio.sleep(0.05)
        try:
            raise KeyError("city")
        except KeyError as error:
            raise ValueError("no such city") from error

    async def wait(state: Work) -> Work:
        await asyncio.Event().wait()
        return {}

    graph = StateGraph(Work).add_node("boom", boom).add_node("wait", wait)
    return graph.add_edge(START, "boom").add_edge(START, "wait").compile()


def gated(gate: asyncio.Event) -> Any:
    """Two nodes, of which the first waits."""

    async def first(state: Work) -> Work:
        await gate.wait()
        return {}

    async def second(state: Work) -> Work:
        return {}

    graph = StateGraph(Work).add_node("first", first).add_node("second", second)
    return graph.add_edge(START, "first").add_edge("first", "second").compile(checkpointer=InMemorySaver())


def stuck() -> Any:
    """A node that never ends."""

    async def wait(state: Work) -> Work:
        await asyncio.Event().wait()
        return {}

    return StateGraph(Work).add_node("wait", wait).add_edge(START, "wait").compile(checkpointer=InMemorySaver())
