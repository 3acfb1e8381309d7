"""The application under attack: a streaming module as a user installs it, with a token needed for everything."""

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
