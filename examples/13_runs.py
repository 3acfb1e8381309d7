"""Start a run in the background, watch its progress, and cancel a second one: `python examples/13_runs.py`."""

import asyncio
from typing import TypedDict

from langgraph.graph import START, StateGraph

from lg_streaming import StreamingModule
from lg_streaming.errors import RunCancelledError
from lg_streaming.testing import ScriptedChatModel

model = ScriptedChatModel(answers=["Rain is water that falls from clouds in drops."], delay=0.05)


class State(TypedDict, total=False):
    topic: str
    report: str


async def search(state: State) -> State:
    await asyncio.sleep(0.3)  # the work
    return state


async def write(state: State) -> State:
    return {"report": str((await model.ainvoke(f"Write about {state.get('topic')}")).text)}


steps = StateGraph(State).add_sequence([search, write]).add_edge(START, "search")
graph = steps.compile()


async def main() -> None:
    async with StreamingModule() as streaming:
        # The library keeps the task. The run goes on without readers, and without anyone who awaits it.
        first = await streaming.runs.start(graph, {"topic": "rain"}, execution_id="report-1")
        async for update in first.updates(types=["workflow_progress"]):
            print(f"{update.data['progress']:5.1f} %  {update.data.get('current_node_name', '')}")
        print((await first)["report"])

        second = await streaming.runs.start(graph, {"topic": "snow"}, execution_id="report-2")
        async for update in second.updates():
            if update.text:
                print(f"{update.text!r} … that is enough")
                await second.cancel("the reader has seen enough")
            elif update.is_final:
                print(update.type, update.data)
        try:
            await second
        except RunCancelledError as error:
            print(f"{second.status}: {error.message}")


if __name__ == "__main__":
    asyncio.run(main())
