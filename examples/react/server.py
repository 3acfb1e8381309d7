"""Serves the React example: a graph that writes a short report and asks before it is sent.

Needs no key and no other host. In this folder:

    npm install
    npm run build
    python server.py        then open http://127.0.0.1:8000
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypedDict
from uuid import uuid4

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, Field

from lg_streaming import StreamingModule, current_emitter, current_progress, stream_event, stream_progress, stream_token
from lg_streaming.testing import ScriptedChatModel

HERE = Path(__file__).resolve().parent
BUILT = HERE / "dist"

PLAN = """\
1. Say what {topic} is, in one sentence.
2. Explain how it comes about.
3. End with something one can see for oneself."""
REPORT = """\
{topic} looks simple and is not. Everybody has met it, few have asked how it works, and the short answer is that \
many small things happen in the right order.

First something has to be there to begin with; then it has to be moved, warmed or cooled by a little. Each step is \
ordinary. What makes it worth a report is that none of them may be left out: take one away, and the rest stops.

You can see it for yourself. Choose a quiet hour, sit down where you have a clear view, and note every ten minutes \
what has changed. By the end of the page you will know more about {topic} than this report can tell."""
SHORTER = """\
{topic}, in short: many small steps, each of them ordinary, and none that may be left out. Watch it for an hour and \
you will have seen them all."""
QUESTION = "Shall the report go out?"
CHOICES = ["Send it", "Make it shorter", "Throw it away"]
Choice = Literal["Send it", "Make it shorter", "Throw it away"]


class State(TypedDict, total=False):
    """What the graph works on."""

    topic: str
    report: str
    choice: Choice


def build_app(*, delay: float = 0.03, pause: float = 0.3) -> FastAPI:
    """The application: its model takes `delay` seconds a token, and the report is sent in steps of `pause` seconds."""
    streaming = StreamingModule()
    model = ScriptedChatModel(answers=lambda messages: messages[-1].text, delay=delay)
    return serve_graph(streaming, build_graph(streaming, model, pause=pause))


def build_graph(streaming: StreamingModule, model: ScriptedChatModel, *, pause: float) -> Any:
    """Plan → write → review → (send | write again | end)."""

    @stream_token
    @stream_event
    async def plan(state: State) -> State:
        await model.ainvoke(PLAN.format(topic=state.get("topic", "")))
        return {}

    @stream_token
    @stream_event
    @stream_progress(interval=0.2)
    async def write(state: State) -> State:
        wanted = SHORTER if state.get("choice") == "Make it shorter" else REPORT
        text, report = wanted.format(topic=state.get("topic", "")), ""
        text = text[0].upper() + text[1:]
        async for chunk in model.astream(text):
            report += chunk.text
            current_progress().update(len(report), len(text))
        return {"report": report}

    @stream_event
    async def review(state: State) -> State:  # noqa: ARG001 (LangGraph calls it with the state)
        return {"choice": await ask(streaming, QUESTION, CHOICES)}

    @stream_event
    @stream_progress(interval=0.2)
    async def send(state: State) -> State:
        paragraphs = state.get("report", "").split("\n")
        for number, _ in enumerate(paragraphs, start=1):
            await asyncio.sleep(pause)
            current_progress().update(number, len(paragraphs))
        return {}

    graph = StateGraph(State)
    graph.add_node("plan", plan)
    graph.add_node("write", write)
    graph.add_node("review", review)
    graph.add_node("send", send)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "write")
    graph.add_edge("write", "review")
    graph.add_conditional_edges("review", after_review, ["send", "write", END])
    graph.add_edge("send", END)
    return graph.compile()


def after_review(state: State) -> str:
    """Where the answer leads."""
    return {"Send it": "send", "Make it shorter": "write"}.get(state.get("choice", ""), END)


async def ask(streaming: StreamingModule, prompt: str, choices: list[str]) -> Any:
    """Asks those who watch, and waits for the first answer."""
    emitter = current_emitter()
    prompt_id = str(uuid4())
    answer = asyncio.get_running_loop().create_future()

    def take(answered: str, response: Any) -> None:
        if answered == prompt_id and not answer.done():
            answer.set_result(response)

    stop_listening = streaming.hub.on_response(emitter.execution_id, take)
    try:
        emitter.event("human_prompt", {"prompt_id": prompt_id, "prompt": prompt, "type": "choice", "choices": choices})
        return await answer
    finally:
        stop_listening()


class Wanted(BaseModel):
    """What `POST /runs` takes."""

    topic: str = Field(min_length=1, max_length=200)


def serve_graph(streaming: StreamingModule, graph: Any) -> FastAPI:
    """An application that starts runs of the graph and serves the page that shows them."""
    running: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    app = FastAPI()
    streaming.install(app)
    app.include_router(APIRouter(lifespan=lifespan))  # after the module: what starts last is stopped first
    app.state.streaming = streaming

    async def run(execution_id: str, topic: str) -> None:
        with suppress(asyncio.CancelledError):  # somebody pressed Cancel: the block has told the readers
            async with streaming.execution(execution_id):
                await graph.ainvoke({"topic": topic})

    @app.post("/runs", status_code=201)
    async def start(wanted: Wanted) -> dict[str, str]:
        execution_id = str(uuid4())
        task = asyncio.create_task(run(execution_id, wanted.topic))
        running.add(task)  # asyncio itself keeps no task alive
        task.add_done_callback(running.discard)
        return {"execution_id": execution_id}

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(HERE / "index.html")

    app.mount("/dist", StaticFiles(directory=BUILT, check_dir=False))
    return app


if __name__ == "__main__":
    if not BUILT.is_dir():
        sys.exit("the page is not built yet: run `npm install` and `npm run build` in this folder first")
    uvicorn.run(build_app(), port=8000)
