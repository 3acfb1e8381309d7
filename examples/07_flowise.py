"""Answer Flowise's clients: `python examples/07_flowise.py`, with http://127.0.0.1:8000 and the flow `write`."""

from typing import Any
from uuid import uuid4

import uvicorn
from fastapi import FastAPI, Response
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from lg_streaming import Position, StreamingModule, human_prompt, sse_response
from lg_streaming.testing import ScriptedChatModel

model = ScriptedChatModel(answers=["Rain is water that falls from clouds."], delay=0.02)
streaming, app = StreamingModule(), FastAPI()
streaming.install(app)


async def write(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


async def approve(state: MessagesState) -> dict[str, Any]:
    asks = "approve" in str(state["messages"][-2].text)  # of the question; the answer comes as `humanInput`
    is_sent = await human_prompt("Shall it be sent?", type="approval") if asks else True
    return {"messages": [AIMessage("Sent." if is_sent else "It was not sent.")]}


steps = StateGraph(MessagesState).add_sequence([write, approve]).add_edge(START, "write")
flow: Any = steps.compile(checkpointer=InMemorySaver())
app.add_api_route("/api/v1/chatflows-streaming/write", lambda: {"isStreaming": True})


@app.post("/api/v1/prediction/write", response_model=None)
async def predict(asked: dict[str, Any]) -> Response | dict[str, Any]:
    chat_id = asked.get("chatId") or asked.get("overrideConfig", {}).get("sessionId") or str(uuid4())
    question = asked["question"]
    about = {"question": question, "chatId": chat_id, "chatMessageId": str(uuid4()), "sessionId": chat_id}
    known = await streaming.hub.describe(chat_id)
    if known and (human := asked.get("humanInput")):
        after = Position(known.epoch, known.head)
        streaming.hub.publish(chat_id, "metadata", about)
        for prompt in (await streaming.runs.state(chat_id)).interrupts:
            await streaming.hub.respond(chat_id, prompt.id, human)
    else:  # a question in place of an answer cancels the run that waits
        run = await streaming.runs.start(flow, {"messages": question}, execution_id=chat_id, if_running="cancel")
        after = run.after
        streaming.hub.publish(chat_id, "metadata", about)
    if asked.get("streaming") in {True, "true"}:
        return sse_response(streaming.hub, chat_id, after=after, dialect="flowise")
    tokens = streaming.hub.subscribe(chat_id, after=after, until="interrupted", types=["token"])
    return {"text": "".join([token.text async for token in tokens]), **about}


if __name__ == "__main__":
    uvicorn.run(app, port=8000)
