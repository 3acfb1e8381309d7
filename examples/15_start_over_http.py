"""Start a graph of a server over HTTP, and answer its prompt: `python examples/15_start_over_http.py`."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

import uvicorn
from fastapi import FastAPI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from lg_streaming import StreamingModule, human_prompt
from lg_streaming.client import SSEClient  # pip install '.[client]'
from lg_streaming.serving import HTTPProtocol, WebSocketProtocol


class Order(TypedDict, total=False):
    item: str
    color: str


async def ask(state: Order) -> Order:
    return {"color": await human_prompt(f"Which color of {state.get('item')}?", choices=["red", "blue"])}


steps: Any = StateGraph(Order).add_node("ask", ask).add_edge(START, "ask")
app, streaming = FastAPI(), StreamingModule()
streaming.graphs["order"] = steps.compile(checkpointer=InMemorySaver())  # only graphs with a name can be started
streaming.install(app)


@asynccontextmanager
async def serving() -> AsyncGenerator[str]:
    listener = socket.create_server(("127.0.0.1", 0))  # any free port
    server = uvicorn.Server(uvicorn.Config(app, http=HTTPProtocol, ws=WebSocketProtocol, log_level="warning"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve([listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True


async def main() -> None:
    async with serving() as url, SSEClient(url) as client:
        print("graphs:", [graph["name"] for graph in await client.graphs()])
        run = await client.start("order", {"item": "pencils"})
        async for update in run:
            if update.type == "human_prompt":
                print(update.data["prompt"], update.data["choices"])
                await run.respond(update.data["prompt_id"], "blue")
            elif update.is_final:
                print(update.type, update.data["result"])


if __name__ == "__main__":
    asyncio.run(main())
