"""Serve the React example: a graph that writes a short report, and asks before it sends the report.

Needs no key and no other host. In this folder:

    npm install
    npm run build
    python server.py        then open http://127.0.0.1:8000
"""

import asyncio
import sys
from pathlib import Path
from typing import Any, Literal, TypedDict

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, Field

from lg_streaming import StreamingModule, current_progress, human_prompt, stream_event, stream_progress, stream_token
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
    """State of the graph."""

    topic: str
    report: str
    choice: Choice


def build_app(*, delay: float = 0.03, pause: float = 0.3) -> FastAPI:
    """Build the application, whose model takes `delay` seconds a token; sending takes `pause` seconds a step."""
    streaming = StreamingModule()
    model = ScriptedChatModel(answers=lambda messages: messages[-1].text, delay=delay)
    return serve_graph(streaming, build_graph(model, pause=pause))


def build_graph(model: ScriptedChatModel, *, pause: float) -> Any:
    """Build the graph: plan → write → review → (send | write again | end)."""

    @stream_token
    @stream_event
    async def plan(state: State) -> State:
        await model.ainvoke(PLAN.format(topic=state.get("topic", "")))
        return {}

    @stream_token
    @stream_event
    @stream_progress(interval=0.2)
    async def write(state: State) -> State:
        template = SHORTER if state.get("choice") == "Make it shorter" else REPORT
        text, report = template.format(topic=state.get("topic", "")), ""
        text = text[0].upper() + text[1:]
        async for chunk in model.astream(text):
            report += chunk.text
            current_progress().update(len(report), len(text))
        return {"report": report}

    @stream_event
    async def review(state: State) -> State:  # noqa: ARG001 (LangGraph calls it with the state)
        return {"choice": await human_prompt(QUESTION, choices=CHOICES)}

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
    return graph.compile(checkpointer=InMemorySaver())  # a graph that asks a human keeps its state


def after_review(state: State) -> str:
    """Return the node that follows the answer."""
    return {"Send it": "send", "Make it shorter": "write"}.get(state.get("choice", ""), END)


class RunRequest(BaseModel):
    """Body of `POST /runs`."""

    topic: str = Field(min_length=1, max_length=200)


def serve_graph(streaming: StreamingModule, graph: Any) -> FastAPI:
    """Return an application that starts runs of the graph, and serves the page that shows them."""
    app = FastAPI()
    streaming.install(app)
    app.state.streaming = streaming

    @app.post("/runs", status_code=201)
    async def start(request: RunRequest) -> dict[str, str]:
        run = await streaming.runs.start(graph, {"topic": request.topic})
        return {"execution_id": run.execution_id}

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(HERE / "index.html")

    app.mount("/dist", StaticFiles(directory=BUILT, check_dir=False))
    return app


if __name__ == "__main__":
    if not BUILT.is_dir():
        sys.exit("the page is not built yet: run `npm install` and `npm run build` in this folder first")
    uvicorn.run(build_app(), port=8000)
