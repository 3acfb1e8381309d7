"""Agents that ask a human: by middleware, and by hand; asked once, answered in every way, in every place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
from langchain.agents import middleware as hooks
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from lg_streaming import stream_all
from tests.agents.calling import CAPTURES, SYNC, WAYS, rotated
from tests.agents.reading import read, state_of
from tests.agents.teams import (
    ASK,
    Graph,
    Keep,
    Messages,
    call,
    create_agent,
    create_deep_agent,
    says,
)

HumanInTheLoopMiddleware: Any = cast("Any", hooks).HumanInTheLoopMiddleware
REFUND = call("refund", "call-r", amount=120)


@tool
def refund(amount: int) -> str:
    """Refund."""
    return f"refunded {amount}"


@tool
def refund_if(amount: int) -> str:
    """Refund, if a human approves."""
    return f"refunded {amount}: {interrupt({'may I': amount})}"


@tool
async def refund_if_async(amount: int) -> str:
    """Refund, if a human approves."""
    return f"refunded {amount}: {interrupt({'may I': amount})}"


@dataclass
class Asking:
    """A graph that asks a human once."""

    graph: Graph
    answer: Any
    question: str
    """A part of what is asked."""
    paused: str
    """The path of the node that waits."""
    tools: int = 0
    """Return the number of tool calls that wait."""
    inside: tuple[BaseMessage, ...] | list[BaseMessage] = ()
    is_async: bool = False


def _model(name: str = "cashier", tool_name: str = "refund") -> Any:
    return says(name, AIMessage("One moment. ", tool_calls=[REFUND | {"name": tool_name}]), "That is that.")


def cashier(**options: Any) -> Graph:
    guard = HumanInTheLoopMiddleware(interrupt_on={"refund": True})
    return create_agent(_model(), [refund], name="cashier", middleware=[guard], **options)


GUARD = "HumanInTheLoopMiddleware.after_model"


def by_middleware(decision: dict[str, Any]) -> Callable[[], Asking]:
    def make() -> Asking:
        return Asking(cashier(checkpointer=InMemorySaver()), {"decisions": [decision]}, "refund", GUARD)

    return make


APPROVE = {"type": "approve"}
EDIT = {"type": "edit", "edited_action": {"name": "refund", "args": {"amount": 1}}}


def by_hand(used: Any, *, is_async: bool = False) -> Callable[[], Asking]:
    def make() -> Asking:
        renamed = used.model_copy(update={"name": "refund"})
        graph = create_agent(_model(), [renamed], name="cashier", checkpointer=InMemorySaver())
        return Asking(graph, "yes", "may I", "tools", 1, is_async=is_async)

    return make


def in_a_node() -> Asking:
    def ask(state: Messages) -> dict[str, Any]:
        said = says("m", "Sure?", "Never.").invoke("go")
        return {"messages": [said, interrupt("ready?")]}

    def greet(state: Messages) -> dict[str, Any]:
        return {"messages": [says("m", "Good day. ", "").invoke("go")]}

    builder: Any = StateGraph(Messages)
    builder.add_node("greet", greet).add_node("ask", ask).add_edge(START, "greet").add_edge("greet", "ask")
    return Asking(builder.compile(checkpointer=InMemorySaver()), "yes", "ready?", "ask")


def as_node() -> Asking:
    builder: Any = StateGraph(Messages)
    builder.add_node("desk", cashier()).add_edge(START, "desk")
    graph = builder.compile(checkpointer=InMemorySaver())
    return Asking(graph, {"decisions": [APPROVE]}, "refund", f"desk/{GUARD}")


def as_decorated_node() -> Asking:
    builder: Any = StateGraph(Messages)
    builder.add_node("desk", stream_all(cashier())).add_edge(START, "desk")
    graph = builder.compile(checkpointer=InMemorySaver())
    return Asking(graph, {"decisions": [APPROVE]}, "refund", f"desk/{GUARD}")


def in_a_tool(*, is_async: bool) -> Callable[[], Asking]:
    def make() -> Asking:
        said: list[BaseMessage] = []
        agent = cashier()

        def ask(question: str) -> str:
            messages = agent.invoke({"messages": question})["messages"]
            said.extend(messages)
            return messages[-1].text

        async def ask_async(question: str) -> str:
            messages = (await agent.ainvoke({"messages": question}))["messages"]
            said.extend(messages)
            return messages[-1].text

        ask_tool = tool("ask_cashier", description="Ask.")(ask_async if is_async else ask)
        first = AIMessage("I ask. ", tool_calls=[call("ask_cashier", "call-1", question="Refund?")])
        graph = create_agent(says("lead", first, "Done."), [ask_tool], name="lead", checkpointer=InMemorySaver())
        answer = {"decisions": [APPROVE]}
        return Asking(graph, answer, "refund", f"tools/{GUARD}", 1, said, is_async=is_async)

    return make


def deep() -> Asking:
    said: list[BaseMessage] = []
    sub = {
        "name": "cashier",
        "description": "Refunds.",
        "system_prompt": "Refund.",
        "tools": [refund],
        "model": _model(),
        "middleware": [Keep(said)],
        "interrupt_on": {"refund": True},
    }
    first = AIMessage("I ask. ", tool_calls=[call("task", "call-1", description="Go.", subagent_type="cashier")])
    model = says("lead", first, "Done.")
    graph = create_deep_agent(model=model, subagents=[sub], name="lead", checkpointer=InMemorySaver())
    return Asking(graph, {"decisions": [APPROVE]}, "refund", f"tools/{GUARD}", 1, said)


def functional() -> Asking:
    agent = cashier()

    @task
    def look(question: str) -> list[BaseMessage]:
        return agent.invoke({"messages": question})["messages"]

    @entrypoint(checkpointer=InMemorySaver())
    def report(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"messages": look(inputs["messages"]).result()}

    return Asking(report, {"decisions": [APPROVE]}, "refund", f"report/look/{GUARD}")


ASKING: dict[str, Callable[[], Asking]] = {
    "approve": by_middleware(APPROVE),
    "edit": by_middleware(EDIT),
    "reject": by_middleware({"type": "reject", "message": "no"}),
    "respond": by_middleware({"type": "respond", "message": "paid before"}),
    "tool": by_hand(refund_if),
    "async tool": by_hand(refund_if_async, is_async=True),
    "node": in_a_node,
    "agent as node": as_node,
    "decorated agent as node": as_decorated_node,
    "agent in tool": in_a_tool(is_async=False),
    "agent in async tool": in_a_tool(is_async=True),
    "deep": deep,
    "functional": functional,
}
CASES = [
    (asking, capture, way)
    for asking, capture, way in rotated(ASKING, CAPTURES, WAYS, each=2)
    if not (way in SYNC and "async" in asking)
]


@pytest.mark.parametrize(("asking", "capture", "way"), CASES)
async def test_approval(asking: str, capture: str, way: str) -> None:
    it, how = ASKING[asking](), CAPTURES[capture]
    graph = how.graph(it.graph)
    config = {"configurable": {"thread_id": "e"}}
    async with how.module() as streaming:
        with how.around(streaming, "e"):
            await WAYS[way](graph, ASK, how.config(streaming, "e"))
        asked = await read(streaming, "e")
        assert asked.outcome == "workflow_interrupted"
        assert await state_of(streaming, "e") == "interrupted"
        with how.around(streaming, "e"):
            await WAYS[way](graph, Command(resume=it.answer), how.config(streaming, "e"))
        state = (await graph.aget_state(config)).values
        assert await streaming.hub.log.executions() == ("e",)
        seen = await read(streaming, "e")

    (question,) = asked.updates[-1].data["interrupts"]
    assert it.question in repr(question["value"])
    assert question["id"]
    assert it.paused in asked.paused
    assert len(asked.of("tool_interrupted")) == it.tools
    assert not asked.of("tool_error", "node_error", "llm_error")
    assert seen.types[: len(asked.types)] == asked.types
    assert seen.outcome == "workflow_complete"
    assert seen.types.count("workflow_start") == 1
    seen.says(state["messages"], it.inside)
