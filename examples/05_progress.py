"""Report progress in weighted parts, named steps and milestones, and show the updates of readers."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from lg_streaming import StreamingModule, current_progress, stream_progress


class State(TypedDict):
    pages: int
    words: int


async def fetch(count: int) -> AsyncIterator[str]:
    for number in range(count):
        await asyncio.sleep(0.02)  # the work
        yield f"page {number} of the report"


@stream_progress(interval=0.05, milestones=[50, 90], format={"precision": 0})
async def read(state: State) -> State:
    progress = current_progress()
    fetching = progress.subtask(weight=3, name="fetching")  # three quarters of the work: 0 to 75 %
    counting = progress.subtask(weight=1, name="counting")
    pages = [page async for page in fetching.track(fetch(state["pages"]), total=state["pages"])]
    words = sum(len(page.split()) for page in counting.track(pages))
    with progress.step("checking the count"):
        await asyncio.sleep(0.06)
    return {**state, "words": words}


graph = StateGraph(State).add_node("read", read).add_edge(START, "read").add_edge("read", END).compile()


async def main() -> None:
    async with StreamingModule() as streaming:
        await graph.ainvoke({"pages": 10, "words": 0}, streaming.config(execution_id="exec-1"))
        async for update in streaming.hub.subscribe("exec-1", types=["progress", "milestone"]):
            data = update.data
            if update.type == "milestone":
                print(f"-- {data['milestone']} % reached --")
            else:
                print(f"{data['progress']:3} %", data["status"], data.get("text", ""))


if __name__ == "__main__":
    asyncio.run(main())
