"""Read a run from another program: first over Server-Sent Events, then resumed over Socket.IO.

Start `python examples/02_fastapi_server.py`, and in a second terminal `python examples/11_client.py`. The second needs
only `pip install '.[client]'`: no part of the server is imported.
"""

import asyncio
import os
import sys

import httpx2

from lg_streaming.client import SocketIOClient, SSEClient
from lg_streaming.errors import StreamingError
from lg_streaming.events import Position

ENOUGH = 20  # characters


async def ask(server: str, question: str) -> str:
    async with httpx2.AsyncClient(base_url=server) as http:
        return str((await http.post("/ask", params={"question": question})).json()["execution_id"])


async def read_the_beginning(client: SSEClient, execution_id: str) -> Position | None:
    text = ""
    async with client.subscribe(execution_id, events=["token"]) as updates:
        async for update in updates:
            text += update.data["content"]
            print(update.data["content"], end="", flush=True)
            if len(text) > ENOUGH:
                break
    return updates.position  # valid for every client and every transport


async def read_the_rest(client: SocketIOClient, execution_id: str, after: Position | None) -> None:
    kinds = ["token", "event", "status"]  # all but progress
    async for update in client.subscribe(execution_id, after=after, events=kinds):
        print(update.data["content"] if update.type == "token" else f"[{update.type}]", end="", flush=True)


async def main(server: str) -> None:
    token = os.environ.get("TOKEN")  # for a server with authentication; `python -m lg_streaming token` prints one
    execution_id = await ask(server, "What is rain?")
    async with SSEClient(server, token=token) as first, SocketIOClient(server, token=token) as second:
        print("Server-Sent Events: ", end="")
        position = await read_the_beginning(first, execution_id)
        print(f"\nSocket.IO, after {position}: ", end="")
        await read_the_rest(second, execution_id, position)
        print("\nall of it:", await first.text(execution_id))


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:] or ["http://127.0.0.1:8000"]))
    except (StreamingError, httpx2.HTTPError) as error:
        sys.exit(f"{error}: is examples/02_fastapi_server.py running?")
