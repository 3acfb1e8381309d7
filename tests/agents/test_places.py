"""Agents below other runs: in nodes, chains, tools and traced functions, decorated there or not."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any, cast

import langsmith
import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langsmith import Client, run_helpers

from lg_streaming import stream_all
from lg_streaming.module import StreamingModule
from tests.agents.calling import CAPTURES, Capture, rotated
from tests.agents.reading import Seen, read
from tests.agents.teams import ASK, TEAMS, Graph, Messages, Team, call, create_agent, says

Messages_ = list[BaseMessage]
Run = Callable[[Graph, Capture, StreamingModule], Any]


def _graph_with(node: Any, name: str = "outer") -> Graph:
    builder: Any = StateGraph(Messages)
    return builder.add_node(name, node).add_edge(START, name).compile()


def _given_messages(state: Messages) -> dict[str, Any]:
    return {"messages": state["messages"]}


@asynccontextmanager
async def called(how: Capture) -> AsyncGenerator[tuple[Any, list[Seen]]]:
    """A config to call a graph with, and a list that has the updates afterwards."""
    seen: list[Seen] = []
    async with how.module() as streaming:
        with how.around(streaming, "e"):
            yield how.config(streaming, "e"), seen
        assert await streaming.hub.log.executions() == ("e",)
        seen.append(await read(streaming, "e"))


async def as_node(agent: Graph, how: Capture) -> tuple[Messages_, Seen]:
    graph = _graph_with(agent)
    async with called(how) as (config, seen):
        state = await graph.ainvoke(ASK, config)
    return state["messages"], seen[0]


def in_function(*, decorated: bool, forward: bool) -> Any:
    async def place(agent: Graph, how: Capture) -> tuple[Messages_, Seen]:
        async def outer(state: Messages, config: RunnableConfig) -> dict[str, Any]:
            return await agent.ainvoke(_given_messages(state), *([config] if forward else []))

        graph = _graph_with(stream_all(outer) if decorated else outer)
        async with called(how) as (config, seen):
            state = await graph.ainvoke(ASK, config)
        return state["messages"], seen[0]

    return place


async def in_sync_function(agent: Graph, how: Capture) -> tuple[Messages_, Seen]:
    def outer(state: Messages) -> dict[str, Any]:
        return agent.invoke(_given_messages(state))

    graph = _graph_with(outer)
    async with called(how) as (config, seen):
        state = await graph.ainvoke(ASK, config)
    return state["messages"], seen[0]


async def in_lambda(agent: Graph, how: Capture) -> tuple[Messages_, Seen]:
    async def ask(inputs: Any) -> Any:
        return await agent.ainvoke(inputs)

    def messages_in(state: Any) -> Any:
        return state["messages"]

    chain: Any = RunnableLambda(ask) | RunnableLambda(messages_in)
    async with called(how) as (config, seen):
        messages = await chain.ainvoke(ASK, config)
    return messages, seen[0]


async def in_tool(agent: Graph, how: Capture) -> tuple[Messages_, Seen]:
    said: Messages_ = []

    @tool
    async def ask() -> str:
        """Ask."""
        messages = (await agent.ainvoke(ASK))["messages"]
        said.extend(messages)
        return messages[-1].text

    boss = create_agent(says("boss", AIMessage("", tool_calls=[call("ask", "call-out")]), "So."), [ask], name="boss")
    async with called(how) as (config, seen):
        state = await how.graph(boss).ainvoke(ASK, config)
    return [*state["messages"], *said], seen[0]


traceable: Any = cast("Any", langsmith).traceable  # its types are unknown in part
tracing_context: Any = cast("Any", run_helpers).tracing_context


class Silent(Client):
    """LangSmith's client, without its server."""

    def create_run(self, *args: Any, **kwargs: Any) -> None: ...

    def update_run(self, *args: Any, **kwargs: Any) -> None: ...


client = Silent(api_key="none", api_url="http://localhost:9", auto_batch_tracing=False)


def in_traced(enabled: Any) -> Any:
    async def place(agent: Graph, how: Capture) -> tuple[Messages_, Seen]:
        @traceable
        async def traced(config: Any) -> Any:
            return await agent.ainvoke(ASK, config)

        async with called(how) as (config, seen):
            with tracing_context(enabled=enabled, client=client) if enabled is not None else nullcontext():
                state = await traced(config)
        return state["messages"], seen[0]

    return place


PLACES: dict[str, Any] = {
    "node": as_node,
    "function": in_function(decorated=False, forward=False),
    "function, config": in_function(decorated=False, forward=True),
    "decorated function": in_function(decorated=True, forward=False),
    "decorated function, config": in_function(decorated=True, forward=True),
    "sync function": in_sync_function,
    "lambda": in_lambda,
    "tool": in_tool,
    "traced": in_traced(None),
    "traced, off": in_traced(False),
    "traced, on": in_traced(True),
}

CASES = [
    (team, place, capture)
    for team, place, capture in rotated(TEAMS, PLACES, CAPTURES, each=1)
    if not (place == "sync function" and team == "async supervisor")
]


@pytest.mark.parametrize(("team", "place", "capture"), CASES)
async def test_places(team: str, place: str, capture: str) -> None:
    it: Team = TEAMS[team]()
    how = CAPTURES[capture]
    messages, seen = await PLACES[place](how.graph(it.graph), how)
    assert seen.outcome == "workflow_complete"
    seen.says(messages, it.inside)
    calls = it.calls
    if place == "tool":
        calls = dict.fromkeys(it.agents, "call-out") | it.calls
    seen.arose_in(calls, but={"boss"})
    if (team, place) == ("in a graph", "tool"):
        return  # LangGraph gives the agent in the graph the name of the agent around the tool
    assert {update.agent_type for update in seen.of("token")} - {None, "boss"} == it.agents
