"""A server with AG-UI's routes, and one graph whose turns are chosen by the user's text."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import FastAPI, Request
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Send, interrupt

from lg_streaming import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.support.server import Server, serve

FREE: dict[str, Any] = {
    "messages_per_second": None,
    "connects_per_address": None,
    "connections_per_address": None,
    "starts_per_subject": None,
}
"""Limits under which one machine may ask as often as many."""
REASONED = AIMessage([{"type": "reasoning", "reasoning": "Rain? Yes."}, {"type": "text", "text": "It rains."}])


class State(MessagesState, total=False):
    topic: str
    turns: int
    tools: list[dict[str, Any]]


class Gates:
    """Points in answers at which models wait until a test lets them go on."""

    def __init__(self) -> None:
        self._gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def open(self, name: str) -> None:
        self._gates[name].set()

    async def wait(self, name: str) -> None:
        await self._gates[name].wait()


class Halting(ScriptedChatModel):
    """A model that waits for its gate after the first token."""

    gates: Any
    gate: str

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        first = True
        async for chunk in super()._astream(messages, stop, run_manager, **kwargs):
            yield chunk
            if first:
                await self.gates.wait(self.gate)
            first = False


@tool
async def search(query: str) -> str:
    """Search."""
    return f"found {query}"


def _call(name: str, id_: str, **args: Any) -> AIMessage:
    return AIMessage("Let me see. ", tool_calls=[{"name": name, "args": args, "id": id_}])


def _model(answer: Any) -> ScriptedChatModel:
    return ScriptedChatModel(answers=[answer])


def _last_question(state: State) -> HumanMessage:
    return next(each for each in reversed(state["messages"]) if isinstance(each, HumanMessage))


def _answers(state: State, gates: Gates) -> ScriptedChatModel:
    """The model of a turn: hello, tool, page, think, slow <gate>, state."""
    text, last, count = _last_question(state).text, state["messages"][-1], len(state["messages"])
    if isinstance(last, ToolMessage):
        return _model(f"The tool gave {last.text}.")
    match text.partition(" ")[0]:
        case "tool":
            return _model(_call("search", f"call-{count}", query="rain"))
        case "page":
            names = [each["name"] for each in state.get("tools", [])]
            return _model(_call(names[0] if names else "missing", f"call-{count}", colour="red"))
        case "think":
            return _model(REASONED)
        case "slow":
            return Halting(answers=["One two three four."], gates=gates, gate=text.removeprefix("slow "))
        case first:
            topic = f"The topic is {state.get('topic', 'none')}."
            return _model(topic if first == "state" else f"You said {text}, and I heard it well.")


async def _ask(state: State) -> dict[str, Any]:
    return {"messages": [AIMessage(f"You answered {interrupt({'question': 'Go on?'})!r}.")]}


async def _ask_one(state: State) -> dict[str, Any]:
    topic = state.get("topic", "")
    return {"messages": [AIMessage(f"{topic}: {interrupt({'question': topic})!r}.")]}


async def _first(state: State) -> Any:
    text = _last_question(state).text
    if text == "ask twice":
        return [Send("ask_one", {"topic": each}) for each in ("first", "second")]
    return "ask" if text.startswith("ask") else "agent"


async def _after(state: State) -> Any:
    last = cast("AIMessage", state["messages"][-1])
    served = bool(last.tool_calls) and last.tool_calls[0]["name"] == "search"
    return "tools" if served else "__end__"


def chat(gates: Gates, checkpointer: Any = None) -> Any:
    """The graph."""

    async def agent(state: State) -> dict[str, Any]:
        text = _last_question(state).text
        if text == "hello":
            get_stream_writer()({"step": 1})
        message = await _answers(state, gates).ainvoke(state["messages"])
        if text == "fail":
            raise ValueError("the graph is broken")
        topic = state.get("topic", "rain") if text == "state" else "rain"
        return {"messages": [message], "topic": topic, "turns": state.get("turns", 0) + 1}

    builder = StateGraph(State)
    builder.add_node("agent", agent)
    builder.add_node("ask", _ask)
    builder.add_node("ask_one", _ask_one)
    builder.add_node("tools", ToolNode([search]))
    builder.add_conditional_edges(START, _first, ["agent", "ask", "ask_one"])
    builder.add_conditional_edges("agent", _after, ["tools", "__end__"])
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=checkpointer or InMemorySaver())


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A running server with the wire."""

    module: StreamingModule
    server: Server
    gates: Gates = field(default_factory=Gates)

    @property
    def url(self) -> str:
        return f"{self.server.url}/agui"


def driven_app(module: StreamingModule, gates: Gates) -> FastAPI:
    """Return an app with the wire, and a route that opens gates, describes runs, and ends or breaks streams."""
    app = FastAPI()
    module.install(app, wires=["ag-ui"])

    async def describe(thread: str) -> str:
        state = await module.hub.describe(thread)
        return state.state if state is not None else "unknown"

    async def drive(request: Request) -> dict[str, Any]:
        asked = await request.json()
        http = module.gateway._http  # pyright: ignore[reportPrivateUsage] (no other way to them)
        streams = cast("set[Any]", http.streams)
        match asked["do"]:
            case "open":
                gates.open(asked["gate"])
            case "streams":
                for stream in [each for each in streams if each._subscription.execution_id == asked["thread"]]:
                    stream.cut() if asked["how"] == "break" else stream.close_for_restart()
            case "ended":
                async with asyncio.timeout(20):
                    while await describe(asked["thread"]) in {"running", "unknown"}:
                        await asyncio.sleep(0.01)
                return {"state": await describe(asked["thread"])}
            case other:
                raise ValueError(other)
        return {}

    app.add_api_route("/drive", drive, methods=["POST"])
    return app


@contextlib.contextmanager
def place(make: Callable[[Gates], Any] = chat, *, redact: Any = None, **settings: Any) -> Generator[Place]:
    """Serve the graph as the only one."""
    gates = Gates()
    module = StreamingModule({"auth": {"enabled": False}, "limits": FREE, **settings}, redact=redact)
    module.graphs["chat"] = make(gates)
    with serve(driven_app(module, gates), log_config=None) as server:
        yield Place(module=module, server=server, gates=gates)
