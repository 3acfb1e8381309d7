"""A worker that runs graphs and serves nothing: the web processes serve what it publishes. See README.md."""

from typing import Any, TypedDict

from broker import REDIS, broker
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from taskiq import TaskiqEvents, TaskiqState

from lg_streaming import StreamingModule, StreamingSettings, human_prompt
from lg_streaming.errors import RunCancelledError
from lg_streaming.testing import ScriptedChatModel

PATIENCE = 600.0  # seconds to wait for an answer
model = ScriptedChatModel(answers=["Rain is water that falls from clouds in drops."], delay=0.1)
streaming = StreamingModule(StreamingSettings(log=REDIS))


class State(TypedDict, total=False):
    topic: str
    report: str


async def write(state: State) -> State:
    return {"report": str((await model.ainvoke(f"Write about {state.get('topic')}")).text)}


async def review(state: State) -> State:
    accepted = await human_prompt("Publish the report?", type="confirmation", timeout=PATIENCE, default=False)
    return state if accepted else {"report": ""}


# A persistent checkpointer in place of this one keeps runs that wait for an answer when the worker restarts.
steps = StateGraph(State).add_sequence([write, review]).add_edge(START, "write")
graph: Any = steps.compile(checkpointer=InMemorySaver())


@broker.task("report")
async def report(execution_id: str, topic: str, owner: str | None = None) -> str:
    try:
        done = await streaming.runs.run(graph, {"topic": topic}, execution_id=execution_id, owner=owner)
    except RunCancelledError as error:  # by a reader, or because the worker stops
        return error.message
    return str(done["report"])


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close(_: TaskiqState) -> None:
    await streaming.runs.aclose("the worker stops")
    await streaming.aclose()
