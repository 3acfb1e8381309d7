"""The graph that the benchmarks of starts run: one node, whose model answers with chunks that were made before.

LangGraph's own development server loads this file too, so it imports nothing of this repository.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph

__all__ = ["SHORT", "TOKENS", "chat", "chat_of", "graph", "graph_of", "short"]

TOKENS = 5_000
SHORT = 20


class State(TypedDict, total=False):
    topic: str
    text: str


class TurningModel(BaseChatModel):
    """Yields chunks that were made before, and gives the event loop a turn after each, as a network does."""

    ready: list[ChatGenerationChunk]

    @property
    def _llm_type(self) -> str:
        return "turning"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("".join(each.text for each in self.ready)))])

    async def _astream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self.ready:
            yield chunk
            await asyncio.sleep(0)


def model_of(tokens: int) -> TurningModel:
    """A model whose answer has so many tokens."""
    chunks = [ChatGenerationChunk(message=AIMessageChunk(content=f"word{n} ")) for n in range(tokens)]
    chunks.append(ChatGenerationChunk(message=AIMessageChunk(content="", chunk_position="last")))
    return TurningModel(ready=chunks)


def graph_of(tokens: int) -> Any:
    """A graph whose answer has so many tokens."""
    model = model_of(tokens)

    async def write(state: State) -> State:
        pieces = [chunk.text async for chunk in model.astream(state.get("topic", ""))]
        return {"text": "".join(pieces)[:100]}

    return StateGraph(State).add_node("write", write).add_edge(START, "write").compile()


def chat_of(tokens: int, **compile_options: Any) -> Any:
    """A chat, whose state is the messages: the answer has so many tokens."""
    model = model_of(tokens)

    async def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("write", write).add_edge(START, "write").compile(**compile_options)


graph, short, chat = graph_of(TOKENS), graph_of(SHORT), chat_of(TOKENS)
