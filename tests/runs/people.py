"""Graphs that ask people, and how the tests read and answer what they ask."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

from lg_streaming import StreamingModule, StreamUpdate
from lg_streaming.runs import GraphRun


class Answers(TypedDict, total=False):
    """State of the graphs."""

    answers: Annotated[list[Any], operator.add]
    question: str


def one_node(node: Any, **compile_options: Any) -> Any:
    """Return a graph of one node, ``ask``."""
    builder = StateGraph(Answers)
    builder.add_node("ask", node)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    compile_options.setdefault("checkpointer", InMemorySaver())
    return builder.compile(**compile_options)


def branches(*questions: Any, starts: list[Any] | None = None) -> Any:
    """Return a graph whose ``Send`` branches each ask a question."""

    async def ask(state: Answers) -> Answers:
        if starts is not None:
            starts.append(state.get("question"))
        return {"answers": [(state.get("question"), interrupt(state.get("question")))]}

    def send(_: Answers) -> list[Send]:
        return [Send("ask", {"question": each}) for each in questions]

    builder = StateGraph(Answers)
    builder.add_node("ask", ask)
    builder.add_conditional_edges(START, send, ["ask"])
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=InMemorySaver())


async def asked(streaming: StreamingModule, execution_id: str = "e", **options: Any) -> list[StreamUpdate]:
    """Return the prompts of a run that waits, and check that ``workflow_interrupted`` has the same."""
    seen = [update async for update in streaming.hub.subscribe(execution_id, until="interrupted", timeout=5, **options)]
    assert seen[-1].type == "workflow_interrupted", [update.type for update in seen]
    prompts = [update for update in seen if update.type == "human_prompt"]
    listed = seen[-1].data.get("prompts", [])
    assert listed == [update.data for update in prompts][-len(listed) :]
    return prompts[-len(listed) :]


async def start_asked(streaming: StreamingModule, graph: Any, value: Any = None, **options: Any) -> Any:
    """Start a run; return it and its prompts."""
    run = await streaming.runs.start(graph, {} if value is None else value, execution_id="e", **options)
    return run, await asked(streaming)


async def asked_again(streaming: StreamingModule, run: GraphRun, known: set[str]) -> list[StreamUpdate]:
    """Return the prompts of the next interruption: those without a known id."""
    prompts: list[StreamUpdate] = []
    async with asyncio.timeout(5):
        async for update in streaming.hub.subscribe(run.execution_id, follow=True):
            if update.type == "human_prompt" and update.data["prompt_id"] not in known:
                prompts.append(update)
            if update.type == "workflow_interrupted" and prompts:
                break
    return prompts


async def types_of(streaming: StreamingModule, execution_id: str = "e") -> list[str]:
    return [update.type async for update in streaming.hub.subscribe(execution_id, timeout=5)]


async def data_of(streaming: StreamingModule, type: str, execution_id: str = "e") -> list[Any]:
    """Return the data of the updates of a type, of a run that has ended."""
    return [update.data async for update in streaming.hub.subscribe(execution_id, types=[type], timeout=5)]
