"""The application under attack: a streaming module as a user installs it, with a token needed for everything."""

import asyncio
import os

from fastapi import FastAPI

from lg_streaming import StreamingModule

app = FastAPI()
streaming = StreamingModule()
streaming.install(app)


@app.post("/publish/{execution_id}")
async def publish(execution_id: str, count: int = 1, size: int = 10, owner: str | None = None) -> None:
    streaming.hub.open(execution_id, owner=owner)
    for index in range(count):
        streaming.hub.publish(execution_id, "token", {"content": "x" * size, "index": index})


@app.get("/wait")
async def wait(seconds: float) -> None:
    await asyncio.sleep(seconds)


@app.get("/leak")
async def leak(seconds: float) -> int:
    """Take all descriptors there are, for a while; return how many."""
    taken: list[int] = []
    while True:
        try:
            taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            break

    def release() -> None:
        for number in taken:
            os.close(number)

    asyncio.get_running_loop().call_later(seconds, release)
    return len(taken)
