"""A graph with nearly everything, for the tests of the Graph and Timeline tabs."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict, cast

from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy, Send, interrupt

from lg_streaming.runs.run import GraphRun
from lg_streaming.testing import ScriptedChatModel
from tests.watch.support import Site

__all__ = ["Journey", "chain", "functional", "journey", "prompt_of", "run_journey"]

Graph = Any


class Journey(TypedDict, total=False):
    """State of `journey`."""

    rounds: int
    notes: Annotated[list[Any], operator.add]
    messages: Annotated[list[Any], operator.add]


@tool
async def search(query: str) -> str:
    """Search for a text."""
    return f"found {query}"


def helper() -> Graph:
    """An agent that calls a tool once."""
    call = AIMessage("", tool_calls=[{"name": "search", "args": {"query": "rain"}, "id": "call-1"}])
    agent = cast("Any", create_agent)  # its type has unknown parts
    return agent(ScriptedChatModel(answers=[call, "It rains."]), [search], name="helper")


def failing(times: int) -> Callable[[Journey], Journey]:
    """A node that fails a number of times."""
    left = iter(range(times))

    def node(_: Journey) -> Journey:
        if next(left, None) is not None:
            msg = "no luck"
            raise ValueError(msg)
        return {}

    return node


def journey(*, gate: asyncio.Event | None = None, is_broken: bool = False) -> Graph:
    """A graph with a retry, parallel nodes, a loop, a question, a subgraph and an agent, in this order.

    One of the parallel nodes waits for `gate`. The last node fails if `is_broken`.
    """

    async def work(state: Journey) -> Journey:
        if gate is not None and state.get("rounds") == 0:
            await gate.wait()
        return {"notes": [state.get("rounds")]}

    def draft(state: Journey) -> Journey:
        return {"rounds": state.get("rounds", 0) + 1}

    def same(_: Journey) -> Journey:
        return {}

    def ask(_: Journey) -> Journey:
        return {"notes": [interrupt("Go on?")]}

    def each(_: Journey) -> list[Send]:
        return [Send("work", {"rounds": number}) for number in range(4)]

    def route(state: Journey) -> str:
        return "again" if state.get("rounds", 0) < 3 else "done"

    inner = chain(["look", "tell"])
    retry = RetryPolicy(max_attempts=3, initial_interval=0.01, jitter=False, retry_on=ValueError)
    graph: Any = StateGraph(Journey)
    graph.add_node("flaky", failing(2), retry_policy=retry)
    for name, node in {"work": work, "draft": draft, "plan": same, "review": same, "ask": ask, "team": inner}.items():
        graph.add_node(name, node)
    graph.add_node("helper", helper())
    graph.add_node("last", failing(1 if is_broken else 0))
    graph.add_edge(START, "flaky").add_edge("flaky", "plan")
    graph.add_conditional_edges("plan", each, ["work"])
    graph.add_edge("work", "draft").add_edge("draft", "review")
    graph.add_conditional_edges("review", route, {"again": "draft", "done": "ask"})
    graph.add_edge("ask", "team").add_edge("team", "helper").add_edge("helper", "last")
    graph.set_finish_point("last")
    return graph.compile(checkpointer=InMemorySaver())


async def run_journey(server: Site, execution_id: str, *, is_broken: bool = False) -> GraphRun:
    """Run a journey up to its question, answer it, and wait for the end."""
    server.streaming.graphs[execution_id] = journey(is_broken=is_broken)  # so that the server keeps it
    run = await server.streaming.runs.start(execution_id, {}, execution_id=execution_id)
    await server.streaming.hub.respond(execution_id, await prompt_of(run), "yes", responder="ann")
    async for _ in run.updates():
        pass
    return run


async def prompt_of(run: GraphRun) -> str:
    """The id of the question for which the run waits."""
    async for update in run.updates():
        if update.type == "workflow_interrupted":
            return update.data["prompts"][0]["prompt_id"]
    msg = "the run asked nothing"
    raise AssertionError(msg)


def chain(names: list[str]) -> Graph:
    """A graph of nodes with these names, one after the other."""

    def same(_: Journey) -> Journey:
        return {}

    graph: Any = StateGraph(Journey)
    return graph.add_sequence([(name, same) for name in names]).add_edge(START, names[0]).compile()


@task
async def shout(word: str) -> str:
    """One task of `functional`."""
    return word.upper()


async def shout_thrice(word: str) -> str:
    first = await shout(word)
    return " ".join(await asyncio.gather(shout(first), shout(word)))


functional: Graph = cast("Any", entrypoint())(shout_thrice)
"""A graph of the functional API: one task, and then two in parallel."""
