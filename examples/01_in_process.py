"""Decorate a node and watch it from the same process: no server, no network, no API key."""

import asyncio
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from lg_streaming import StreamingModule, stream_token
from lg_streaming.testing import ScriptedChatModel

model = ScriptedChatModel(answers=["Rain is water that falls from clouds in drops."], delay=0.05)


class State(TypedDict, total=False):
    question: str
    answer: str


@stream_token
async def write(state: State) -> State:
    reply = await model.ainvoke(state.get("question", ""))  # an ordinary call, whose tokens are streamed
    return {"answer": str(reply.text)}


builder = StateGraph(State)
builder.add_node("write", write)
builder.add_edge(START, "write")
builder.add_edge("write", END)
graph = builder.compile()


async def main() -> None:
    async with StreamingModule() as streaming:
        run = await streaming.runs.start(graph, {"question": "What is rain?"}, execution_id="exec-1")
        async for update in run.updates():
            if update.type == "token":
                print(update.data["content"], end="", flush=True)
            elif update.kind != "progress":
                print(f"[{update.type}]")
        print((await run)["answer"])


if __name__ == "__main__":
    asyncio.run(main())
