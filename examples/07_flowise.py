"""Answer Flowise's clients: `python examples/07_flowise.py`, and give them http://127.0.0.1:8000 and the flow `write`.

A question with "approve" in it makes the run wait for a human; a request with `humanInput` goes on where it waits.
"""

import asyncio
from typing import Any
from uuid import uuid4

import uvicorn
from fastapi import FastAPI, Response
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from lg_streaming import StreamingModule, current_emitter, sse_response, stream_event, stream_token
from lg_streaming.testing import ScriptedChatModel

model = ScriptedChatModel(answers=["Rain is water that falls from clouds."], delay=0.02)
streaming, app, running = StreamingModule(), FastAPI(), set[asyncio.Task[Any]]()


@stream_token
@stream_event
async def write(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


@stream_event
async def approve(state: MessagesState) -> dict[str, Any]:
    human = interrupt("Shall it be sent?") if "approve" in str(state["messages"][-2].text) else {"type": "proceed"}
    current_emitter().token(answer := "Sent." if human["type"] == "proceed" else "It was not sent.")
    return {"messages": [("ai", answer)]}


steps = StateGraph(MessagesState).add_sequence([write, approve]).add_edge(START, "write")
flow: Any = steps.compile(checkpointer=InMemorySaver())
app.add_api_route("/api/v1/chatflows-streaming/write", lambda: {"isStreaming": True})


@app.post("/api/v1/prediction/write", response_model=None)
async def predict(asked: dict[str, Any]) -> Response | dict[str, Any]:
    question, session_id = asked.get("question", ""), asked.get("overrideConfig", {}).get("sessionId")
    chat_id = asked.get("chatId") or session_id or str(uuid4())
    about = {"question": question, "chatId": chat_id, "chatMessageId": str(uuid4()), "sessionId": session_id or chat_id}
    known = await streaming.hub.describe(chat_id)
    streaming.hub.open(chat_id)  # a reader that subscribes before the graph starts waits for this run
    streaming.hub.publish(chat_id, "metadata", about)
    config = streaming.config({"configurable": {"thread_id": chat_id}}, execution_id=chat_id)
    human, said = asked.get("humanInput"), {"messages": [("user", question)]}
    running.add(run := asyncio.create_task(flow.ainvoke(Command(resume=human) if human else said, config)))
    run.add_done_callback(running.discard)
    if asked.get("streaming") not in {True, "true"}:
        return {"text": str((await run)["messages"][-1].text), **about}
    return sse_response(streaming.hub, chat_id, after=known and f"{known.epoch}:{known.head}", dialect="flowise")


if __name__ == "__main__":
    uvicorn.run(app, port=8000)
