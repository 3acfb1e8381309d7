"""Serve one graph to all front ends at once: `python server.py`, then start a page of this folder with `npm run dev`.

The graph writes a postcard: it looks up the weather, writes the text, and asks a person before it posts the card.
Needs no key and no other host.
"""

import asyncio
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain.agents.middleware import HumanInTheLoopMiddleware, InterruptOnConfig
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver

from lg_streaming import StreamingModule, current_emitter
from lg_streaming.serving import HTTPProtocol, WebSocketProtocol
from lg_streaming.testing import ScriptedChatModel

GRAPH: Final = "postcard"
ORIGINS: Final = tuple(f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (5173, 5174, 5175))
"""Origins of the pages that `npm run dev` serves."""

WEATHER: Final = "14 degrees, fog until ten, then sun"
PLAN: Final = "First a look at the weather in {place}."
CARD: Final = """\
Greetings from {place}! The morning began in fog, so thick that the lamps stayed on until ten. Then the sun came \
through all at once, and everybody who had been indoors was suddenly in the street.

I walked down to the water, bought a paper cone of chestnuts, and counted eleven boats. The twelfth had a dog at the \
wheel. Nobody else seemed surprised.

It is 14 degrees and I have not worn the coat. Come soon, and bring yours for the mornings."""
QUESTION: Final = "Shall the card be posted?"
POSTED: Final = "It is in the post, and should arrive in four days."
KEPT: Final = "Then it stays here. Name another place, and I will write a new one."
STEPS: Final = ("Stamping", "Franking", "Sorting", "Handing over")


def write(messages: list[BaseMessage]) -> AIMessage:
    """Answer as a model would: look up the weather, write the card and ask to post it, report."""
    last = messages[-1]
    place = next(message.text for message in reversed(messages) if message.type == "human").strip()
    number = len(messages)
    if not isinstance(last, ToolMessage):
        call = {"name": "look_up_weather", "args": {"place": place}, "id": f"weather-{number}"}
        return AIMessage(PLAN.format(place=place), tool_calls=[call])
    if last.name == "look_up_weather":
        call = {"name": "post_card", "args": {"to": "Ada", "place": place}, "id": f"post-{number}"}
        return AIMessage(CARD.format(place=place), tool_calls=[call])
    return AIMessage(KEPT if last.status == "error" else POSTED)


def build_tools(pause: float) -> list[BaseTool]:
    """Build the tools, which take `pause` seconds a step."""

    @tool
    async def look_up_weather(place: str) -> str:
        """Look up the weather of a place."""
        await asyncio.sleep(pause)
        return f"{place}: {WEATHER}"

    @tool
    async def post_card(to: str, place: str) -> str:
        """Post the card."""
        emitter = current_emitter()
        for number, step in enumerate(STEPS, start=1):
            # `id` lets a page replace the earlier report of the same card.
            emitter.custom("delivery", {"id": to, "step": step, "percent": 100 * number // len(STEPS)})
            await asyncio.sleep(pause)
        return f"The card from {place} to {to} is in the post"

    return [look_up_weather, post_card]


def build_graph(*, delay: float, pause: float, checkpointer: Any) -> Any:
    """Build the agent, which asks a person before it calls `post_card`."""
    model = ScriptedChatModel(answers=write, delay=delay)
    review = InterruptOnConfig(allowed_decisions=["approve", "reject"], description=QUESTION)
    guard = HumanInTheLoopMiddleware(interrupt_on={"post_card": review})
    return create_agent(model, build_tools(pause), middleware=[guard], checkpointer=checkpointer)


def build_app(*, delay: float = 0.03, pause: float = 0.4, origins: tuple[str, ...] = ORIGINS) -> FastAPI:
    """Build the application.

    Args:
        delay: Seconds a token.
        pause: Seconds a step of a tool.
        origins: Origins of the pages.
    """
    app = FastAPI()
    # Version 7 of the AI SDK can take the text of a broken try back.
    streaming = StreamingModule({"gateway": {"cors_origins": origins}, "wires": {"ai_sdk_clients": "7"}})
    streaming.graphs[GRAPH] = build_graph(delay=delay, pause=pause, checkpointer=InMemorySaver())
    # Our own Socket.IO, WebSocket and Server-Sent Events are there without a name.
    streaming.install(app, wires=["ai-sdk", "langgraph", "ag-ui", "durable-streams"])
    return app


if __name__ == "__main__":
    uvicorn.run(build_app(), port=8000, http=HTTPProtocol, ws=WebSocketProtocol)
