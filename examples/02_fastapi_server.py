"""Let browsers and other services watch runs: the module installed in a FastAPI app.

Start it with `python examples/02_fastapi_server.py`, then:

    curl -X POST 'http://127.0.0.1:8000/ask?question=What+is+rain'
    curl -N http://127.0.0.1:8000/executions/EXECUTION_ID/stream

The first answers with an execution id; the second shows the run live, as Server-Sent Events.
A browser lists runs at http://127.0.0.1:8000/watch/, and shows one at http://127.0.0.1:8000/watch/EXECUTION_ID.
Socket.IO clients connect to http://127.0.0.1:8000 and emit `subscribe_execution`.
By default only callers on this machine are accepted.
"""

from typing import TypedDict

import uvicorn
from fastapi import FastAPI
from langgraph.graph import END, START, StateGraph

from lg_streaming import StreamingModule, stream_event, stream_token
from lg_streaming.testing import ScriptedChatModel

model = ScriptedChatModel(answers=["Rain is water that falls from clouds in drops."], delay=0.2)


class State(TypedDict, total=False):
    question: str
    answer: str


@stream_token
@stream_event
async def write(state: State) -> State:
    return {"answer": str((await model.ainvoke(state.get("question", ""))).text)}


graph = StateGraph(State).add_node("write", write).add_edge(START, "write").add_edge("write", END).compile()

app = FastAPI()
streaming = StreamingModule()
streaming.install(app, ui=True)


@app.post("/ask")
async def ask(question: str) -> dict[str, str]:
    run = await streaming.runs.start(graph, {"question": question})
    return {"execution_id": run.execution_id}


if __name__ == "__main__":
    uvicorn.run(app, port=8000)
