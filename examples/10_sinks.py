"""Send a run to a file, a log and another service. Each goes at its own pace; the graph waits for none of them."""

import asyncio
import logging
import sys
from pathlib import Path
from socket import create_server, socket
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from langgraph.graph import START, MessagesState, StateGraph

from lg_streaming import StreamingModule, stream_all
from lg_streaming.sinks import JsonLinesSink, LoggingSink, WebhookSink, verify_webhook
from lg_streaming.testing import ScriptedChatModel

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # both sides know it; yours comes from the environment
model = ScriptedChatModel(answers=["Rain is water that falls from clouds in drops."], delay=0.05)
service, answers = FastAPI(), [503, *[204] * 99]  # stands for the other service, which is away at first


@service.post("/hook")
async def receive(request: Request) -> Response:
    told, status = verify_webhook(request.headers, await request.body(), SECRET), answers.pop(0)
    logging.getLogger("webhook").info("%d up to %s; answered with %d", len(told["updates"]), told["position"], status)
    return Response(status_code=status)


@stream_all
async def write(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


graph: Any = StateGraph(MessagesState).add_node("write", write).add_edge(START, "write").compile()


async def main(file: Path, listener: socket) -> None:
    server = uvicorn.Server(uvicorn.Config(service, log_level="warning"))
    serving = asyncio.create_task(server.serve([listener]))
    hook = WebhookSink(f"http://127.0.0.1:{listener.getsockname()[1]}/hook", secret=SECRET, id="webhook")
    async with StreamingModule() as streaming:
        sinks = [JsonLinesSink(file, id="file"), LoggingSink("log", data=False, id="log"), hook]
        attached = [streaming.hub.attach("exec-1", sink) for sink in sinks]
        await graph.ainvoke({"messages": "What is rain?"}, streaming.config(execution_id="exec-1"))
        logging.getLogger("graph").info("done")
        await asyncio.gather(*(each.wait() for each in attached))  # until each was sent the run's final update
        print({each.sink_id: f"{each.delivered} updates, {each.errors} tries failed" for each in attached})
    server.should_exit = True
    await serving


if __name__ == "__main__":
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel("WARNING")
    with TemporaryDirectory() as folder:
        asyncio.run(main(file := Path(folder) / "exec-1.jsonl", create_server(("127.0.0.1", 0))))
        print("the file's last line:", file.read_text().splitlines()[-1])
