"""A web process that runs no graph: it takes jobs, and serves what the workers publish.

With a Redis on this machine, start in the folder of this file:

    pip install 'lg-streaming[redis]' 'taskiq-redis>=1.2.4,<2'
    taskiq worker worker:broker
    python -m lg_streaming serve web:app

Each may be started several times, on several machines. Then, in another terminal:

    curl -X POST 'http://127.0.0.1:8000/jobs?topic=rain'
    curl -N http://127.0.0.1:8000/executions/EXECUTION_ID/stream
    curl -X POST -H 'Content-Type: application/json' -d '{"prompt_id": "PROMPT_ID", "response": true}' \
        http://127.0.0.1:8000/executions/EXECUTION_ID/responses
    curl -X DELETE http://127.0.0.1:8000/executions/EXECUTION_ID

The last one cancels a run.
"""

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
