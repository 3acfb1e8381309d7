"""The graphs that the stock client's checks drive, and the server that has them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import FastAPI, Request
from langchain import agents
from langchain.agents import middleware
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.config import get_config, get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy, interrupt
from starlette.responses import Response

from lg_streaming import StreamingModule, ai_sdk_response, current_emitter, human_prompt
from lg_streaming.testing import ScriptedChatModel
from tests.support.server import Server, serve

create_agent: Any = cast("Any", agents).create_agent
HumanInTheLoopMiddleware: Any = cast("Any", middleware).HumanInTheLoopMiddleware
ODD = 'Grüße 👩‍👩‍👧‍👦 \u2028\u2029\u0085 \r\n "quoted" \\ <b>&amp; data: x\n\n: ping 雨 \u202eabc __proto__'
LIMITS: dict[str, Any] = {
    "messages_per_second": None,
    "connects_per_address": None,
    "connections_per_address": None,
    "starts_per_subject": None,
}


@dataclass
class Gates:
    """Points at which graphs wait, by chat: each `open` lets one pass."""

    _held: defaultdict[str, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(functools.partial(asyncio.Semaphore, 0))
    )

    async def wait(self) -> None:
        await self._held[get_config().get("configurable", {})["thread_id"]].acquire()

    def open(self, chat: str) -> None:
        self._held[chat].release()

    def close(self) -> None:
        """Close all gates, for the chats of another server."""
        self._held.clear()


GATES = Gates()


class Gated(ScriptedChatModel):
    """A model that waits at a gate after its second token."""

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        count = 0
        async for chunk in super()._astream(*args, **kwargs):
            yield chunk
            count += 1
            if count == 2:
                await GATES.wait()


class Finishing(Gated):
    """A model that waits at a gate in the answer that follows tools."""

    async def _astream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        waits = isinstance(messages[-1], ToolMessage)
        stream = super()._astream if waits else ScriptedChatModel._astream.__get__(self)
        async for chunk in stream(messages, *args, **kwargs):
            yield chunk


def user_text(messages: Sequence[BaseMessage]) -> str:
    return next(str(each.text) for each in reversed(messages) if each.type == "human")


def echo(messages: list[BaseMessage]) -> str:
    """An answer that shows which messages the model got."""
    return f"{sum(each.type == 'human' for each in messages)} questions, the last is {user_text(messages)}."


def call(name: str, id: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": id}


def caller(*calls: tuple[str, dict[str, Any]], then: str = "Done: ", first: str = "Let me see. ") -> ScriptedChatModel:
    """A model that calls tools, and then shows their results."""

    def answer(messages: list[BaseMessage]) -> AIMessage | str:
        results: list[str] = []
        for each in reversed(messages):
            if not isinstance(each, ToolMessage):
                break
            results.insert(0, str(each.text))
        if results:
            return then + ", ".join(results) + "."
        ids = [f"call-{len(messages)}-{index}" for index in range(len(calls))]
        return AIMessage(
            first, tool_calls=[call(name, id_, **args) for id_, (name, args) in zip(ids, calls, strict=True)]
        )

    return ScriptedChatModel(answers=answer)


# ---------------------------------------------------------------- tools
@tool
async def weather(city: str) -> str:
    """The weather."""
    return f"rain in {city}"


@tool
async def slow_weather(city: str) -> str:
    """The weather, after a gate."""
    await GATES.wait()
    return f"rain in {city}"


@tool
async def broken(city: str) -> str:
    """Fails."""
    raise ValueError(f"no data of {city}")


@tool
async def send(to: str) -> str:
    """Ask a person, in the tool."""
    return "sent" if await human_prompt(f"Send to {to}?", type="approval") else "not sent"


@tool
async def location(accuracy: str) -> str:
    """The place of the user, which the page knows."""
    return str(interrupt({"needs": "location"}))


async def handle(request: Any, handler: Any) -> Any:
    try:
        return await handler(request)
    except ValueError as error:
        return ToolMessage(f"failed: {error}", tool_call_id=request.tool_call["id"], status="error")


# ---------------------------------------------------------------- graphs
def one_node(node: Any, saver: Any) -> Any:
    return StateGraph(MessagesState).add_node("write", node).add_edge(START, "write").compile(checkpointer=saver)


async def ask(model: ScriptedChatModel, state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


def chat(model: ScriptedChatModel, saver: Any) -> Any:
    return one_node(functools.partial(ask, model), saver)


def parallel(saver: Any) -> Any:
    models = [ScriptedChatModel(answers=[f"{name} one {name} two {name} three."], delay=0.002) for name in ("A", "B")]
    builder = StateGraph(MessagesState)
    for name, model in zip("ab", models, strict=True):
        builder.add_node(name, functools.partial(ask, model)).add_edge(START, name)
    return builder.compile(checkpointer=saver)


async def data(state: MessagesState) -> dict[str, Any]:
    emitter, writer = current_emitter(), get_stream_writer()
    emitter.custom("weather", {"id": "oslo", "state": "loading"})
    emitter.custom("notice", {"text": "passing", "transient": True})
    writer({"step": 1, "__proto__": {"odd": True}})
    emitter.custom("a name with spaces", 7)
    emitter.event("own-type", [1, 2])
    emitter.custom("weather", {"id": "oslo", "state": "rain"})
    emitter.error("a passing problem")
    return {"messages": [await ScriptedChatModel(answers=["With data."]).ainvoke("")]}


async def proto(state: MessagesState) -> dict[str, Any]:
    emitter = current_emitter()
    refused: Any = {"__proto__": {"a": 1}, "constructor": {"prototype": {}, "b": 2}, "fine": {"y": 2}, "nothing": None}
    emitter.event("tool_start", {"tool": "odd", "tool_call_id": "c-1", "input": refused})
    emitter.event("tool_complete", {"tool": "odd", "tool_call_id": "c-1", "output": [refused]})
    answer = AIMessage('{"__proto__": 1}', tool_calls=[call("weather", "c-2", __proto__={"x": 1}, city="Oslo")])
    return {"messages": [await ScriptedChatModel(answers=[answer]).ainvoke("")]}


async def docs(state: MessagesState) -> dict[str, Any]:
    emitter = current_emitter()
    emitter.source_documents(
        [
            {
                "id": "d1",
                "page_content": "About rain",
                "metadata": {"source": "https://example.org/rain", "title": "Rain"},
            },
            {"page_content": "From a file", "metadata": {"source": "notes.txt"}},
        ]
    )
    emitter.artifacts([{"url": "https://example.org/a.png", "mime_type": "image/png"}, {"kind": "table", "rows": 2}])
    return {"messages": [await ScriptedChatModel(answers=["See there."]).ainvoke("")]}


def crash(saver: Any) -> Any:
    def answer(messages: list[BaseMessage]) -> str:
        return "All is well." if "again" in user_text(messages) else "This ends early"

    async def node(state: MessagesState) -> dict[str, Any]:
        result = await ask(ScriptedChatModel(answers=answer), state)
        if "again" not in user_text(state["messages"]):
            raise RuntimeError("the disk is full")
        return result

    return one_node(node, saver)


def confirm(saver: Any) -> Any:
    async def node(state: MessagesState) -> dict[str, Any]:
        answer = interrupt("Publish it?")
        return await ask(ScriptedChatModel(answers=[f"You answered {answer!r}."]), state)

    return one_node(node, saver)


def choose(saver: Any) -> Any:
    async def node(state: MessagesState) -> dict[str, Any]:
        color = await human_prompt("Which color?", choices=["red", "blue"])
        return await ask(ScriptedChatModel(answers=[f"It is {color}."]), state)

    return one_node(node, saver)


def retry(saver: Any) -> Any:
    model = ScriptedChatModel(answers=["This text is complete."], fail_after=3, failures=1)
    policy = RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False, retry_on=Exception)
    builder = StateGraph(MessagesState).add_node("write", functools.partial(ask, model), retry_policy=policy)
    return builder.add_edge(START, "write").compile(checkpointer=saver)


def page_tools(saver: Any) -> Any:
    """A graph that ends with calls of tools which only the page has."""
    return chat(caller(("location", {"accuracy": "city"})), saver)


def reviewed(saver: Any, mode: str, *calls: tuple[str, dict[str, Any]], only: tuple[str, ...] = ()) -> Any:
    names = only or tuple(dict.fromkeys(name for name, _ in calls))
    guard = HumanInTheLoopMiddleware(interrupt_on=dict.fromkeys(names, True), interrupt_mode=mode)
    return create_agent(caller(*calls), tools=[weather, slow_weather, broken], middleware=[guard], checkpointer=saver)


def graphs(saver: BaseCheckpointSaver[Any] | None = None) -> dict[str, Any]:
    """All graphs by name."""
    saver = saver or InMemorySaver()
    agent = functools.partial(create_agent, checkpointer=saver)
    oslo = {"city": "Oslo"}
    thought = AIMessage([{"type": "reasoning", "reasoning": "Rain? Yes."}, {"type": "text", "text": "It rains."}])
    return {
        "echo": chat(ScriptedChatModel(answers=echo), saver),
        "forgetful": chat(ScriptedChatModel(answers=echo), None),
        "unicode": chat(ScriptedChatModel(answers=[ODD]), saver),
        "reasoning": chat(ScriptedChatModel(answers=[thought]), saver),
        "gated": chat(Gated(answers=echo), saver),
        "parallel": parallel(saver),
        "tool": agent(caller(("weather", oslo), ("weather", {"city": "Bergen"})), [weather]),
        "last-tool": agent(caller(("final", oslo), first=""), [final_tool()]),
        "slow-tool": agent(caller(("slow_weather", oslo)), [slow_weather]),
        "tool-error": agent(caller(("broken", oslo)), [broken], middleware=[_guarded()]),
        "proto": one_node(proto, saver),
        "data": one_node(data, saver),
        "docs": one_node(docs, saver),
        "crash": crash(saver),
        "approve": reviewed(saver, "per_call", ("slow_weather", oslo)),
        "approve-batch": reviewed(saver, "batched", ("weather", oslo), ("weather", {"city": "Bergen"})),
        "approve-some": reviewed(saver, "batched", ("weather", oslo), ("broken", oslo), only=("broken",)),
        "send": agent(caller(("send", {"to": "Ada"})), [send]),
        "confirm": confirm(saver),
        "choose": choose(saver),
        "location": agent(caller(("location", {"accuracy": "city"})), [location]),
        "page-tools": page_tools(saver),
        "page-tools-slow": chat(Finishing(answers=caller(("location", {"accuracy": "city"})).answers), saver),
        "retry": retry(saver),
    }


def final_tool() -> Any:
    @tool(return_direct=True)
    async def final(city: str) -> str:
        """End the run."""
        return f"rain in {city}"

    return final


def _guarded() -> Any:
    return cast("Any", middleware).wrap_tool_call(handle)


# ---------------------------------------------------------------- the server
async def driven(module: StreamingModule, chat: str, what: str) -> dict[str, Any]:
    """Open a gate, end a run, cut the streams of a chat, or return the state of its run."""
    match what:
        case "open":
            GATES.open(chat)
        case "cancel":
            await module.hub.cancel(chat, "enough")
        case "cut":
            gateway: Any = module.gateway
            streams = gateway._http.streams
            for stream in [each for each in streams if each._subscription.execution_id == chat]:
                stream.close_for_restart()
        case _:
            state = await module.hub.describe(chat)
            return {"state": None if state is None else state.state}
    return {}


def chat_app(module: StreamingModule, database: str | None = None) -> FastAPI:
    """Return an app with the wire, a route that drives runs, and routes with a response of their own.

    Args:
        module: The module.
        database: File of the checkpoints; without it they are in memory.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with AsyncSqliteSaver.from_conn_string(database) if database else contextlib.nullcontext() as saver:
            for name, graph in graphs(saver).items():
                module.graphs[name] = graph
            yield

    app = FastAPI(lifespan=lifespan)
    module.install(app, wires=["ai-sdk"])

    @app.post("/drive")
    async def drive(request: Request) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction] (a route)
        asked = await request.json()
        return await driven(module, asked["id"], asked["do"])

    @app.post("/own")
    async def own(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction] (a route)
        asked = await request.json()
        value = {"messages": [("user", asked["messages"][-1]["parts"][0]["text"])]}
        run = await module.runs.start("gated", value, execution_id=asked["id"])
        return ai_sdk_response(module.hub, run.execution_id, after=run.after)

    @app.get("/own/{chat_id}/stream")
    async def resume(chat_id: str) -> Response:  # pyright: ignore[reportUnusedFunction] (a route)
        return ai_sdk_response(module.hub, chat_id, resume=True)

    @app.get("/own/{chat_id}/rest")
    async def rest(chat_id: str, after: str) -> Response:  # pyright: ignore[reportUnusedFunction] (a route)
        return ai_sdk_response(module.hub, chat_id, after=after)

    return app


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A running server with the wire."""

    module: StreamingModule
    server: Server

    @property
    def url(self) -> str:
        return self.server.url


@contextlib.contextmanager
def place(database: str | None = None, **settings: Any) -> Generator[Place]:
    """Serve the graphs."""
    GATES.close()
    gateway = {"heartbeat_interval": 0.2, **settings.get("gateway", {})}
    module = StreamingModule({"limits": LIMITS, **settings, "gateway": gateway, "runs": {"shutdown_grace": 0.0}})
    with serve(chat_app(module, database), log_config=None) as server:
        yield Place(module=module, server=server)
