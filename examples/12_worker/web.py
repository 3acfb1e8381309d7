"""A web process that runs no graph: it takes jobs, and serves what the workers publish. See README.md."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

from broker import REDIS, broker
from fastapi import FastAPI
from taskiq.kicker import AsyncKicker

from lg_streaming import StreamingModule, StreamingSettings


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


app = FastAPI(lifespan=lifespan)
streaming = StreamingModule(StreamingSettings(log=REDIS))
streaming.install(app)


@app.post("/jobs", status_code=202)
async def start(topic: str, owner: str | None = None) -> dict[str, str]:
    """Enqueue a job. Check the caller here, and pass its user id as the owner in place of the parameter."""
    execution_id = str(uuid4())
    await AsyncKicker("report", broker, {}).kiq(execution_id, topic, owner)  # by name: the graph is not imported here
    return {"execution_id": execution_id}
