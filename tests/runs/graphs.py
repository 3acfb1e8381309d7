"""Small graphs of the tests of runs."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    """State of the graphs."""

    text: str
    answer: Any


class Gate:
    """Node that waits until the test opens it, and counts its starts."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.entered = asyncio.Event()
        self.starts = 0

    async def __call__(self, state: State) -> State:
        self.starts += 1
        self.entered.set()
        await self.open.wait()
        return {"text": f"{state.get('text', '')}!"}


def gated(gate: Gate) -> Any:
    """Return a graph of one node, which waits for its gate."""
    builder = StateGraph(State)
    builder.add_node("work", gate)
    builder.add_edge(START, "work")
    builder.add_edge("work", END)
    return builder.compile(checkpointer=InMemorySaver(), name="gated")


def asking(question: Any = "Approve?", **compile_options: Any) -> Any:
    """Return a graph whose node asks a human, and then ends."""

    async def ask(state: State) -> State:
        return {"answer": interrupt(question)}

    async def tell(state: State) -> State:
        return {"text": f"{state.get('text', '')} {state.get('answer')}"}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_node("answer_node", tell)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "answer_node")
    builder.add_edge("answer_node", END)
    compile_options.setdefault("checkpointer", InMemorySaver())
    return builder.compile(name="asking", **compile_options)
