"""A worker that runs graphs and serves nothing: the web processes serve what it publishes.

See `web.py` for the commands.
"""

import asyncio
from typing import TypedDict

from broker import REDIS, broker
from langgraph.graph import END, START, StateGraph
from taskiq import TaskiqEvents, TaskiqState

from lg_streaming import StreamingModule, StreamingSettings, current_emitter, stream_all
from lg_streaming.testing import ScriptedChatModel

PATIENCE = 600.0  # seconds to wait for an answer
model = ScriptedChatModel(answers=["Rain is water that falls from clouds in drops."], delay=0.1)
streaming = StreamingModule(StreamingSettings(log=REDIS))


class State(TypedDict, total=False):
    execution_id: str
    topic: str
    report: str


@stream_all
async def write(state: State) -> State:
    return {"report": str((await model.ainvoke(f"Write about {state.get('topic')}")).text)}


@stream_all
async def review(state: State) -> State:
    answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    loop = answer.get_loop()

    def receive(_: str, response: object) -> None:  # called on the library's thread
        loop.call_soon_threadsafe(lambda: answer.done() or answer.set_result(response))

    undo = streaming.hub.on_response(state.get("execution_id", ""), receive)
    try:
        current_emitter().human_prompt("Publish the report?", type="confirmation", timeout_s=PATIENCE)
        accepted = await asyncio.wait_for(answer, PATIENCE)
    finally:
        undo()
    return {} if accepted else {"report": ""}


builder = StateGraph(State).add_node("write", write).add_node("review", review)
graph = builder.add_edge(START, "write").add_edge("write", "review").add_edge("review", END).compile()


@broker.task("report")
async def report(execution_id: str, topic: str, owner: str | None = None) -> str:
    async with streaming.execution(execution_id, owner=owner):  # a reader that cancels the run cancels this task
        inputs: State = {"execution_id": execution_id, "topic": topic}
        return str((await graph.ainvoke(inputs, streaming.config(execution_id)))["report"])


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close(_: TaskiqState) -> None:
    await streaming.hub.shutdown("the worker stops")  # cancels runs that go on, and closes the hub
