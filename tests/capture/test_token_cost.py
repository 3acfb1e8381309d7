"""Cost of a token: one of our handlers gets it, in every way to capture its node, and a flush is one append."""

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.callbacks.manager import AsyncCallbackManagerForLLMRun

from lg_streaming import StreamingModule, stream_all, stream_progress, stream_token
from lg_streaming.log.base import Batch
from tests.capture.graphs import State, Update, graph_of, model, read

WORDS = [f"w{number} " for number in range(120)]


def _words(_: str) -> list[str]:
    return WORDS


async def write(state: State) -> Update:
    return {"text": (await model("".join(WORDS), split=_words).ainvoke("go")).text}


async def outer(state: State) -> Update:
    return {"text": (await graph_of(write).ainvoke(state))["text"]}


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> list[list[BaseCallbackHandler]]:
    """The handlers that LangChain asks at each token."""
    seen: list[list[BaseCallbackHandler]] = []
    original = AsyncCallbackManagerForLLMRun.on_llm_new_token

    async def spy(self: AsyncCallbackManagerForLLMRun, *args: Any, **kwargs: Any) -> None:
        seen.append(self.handlers)
        await original(self, *args, **kwargs)

    monkeypatch.setattr(AsyncCallbackManagerForLLMRun, "on_llm_new_token", spy)
    return seen


CAPTURED: dict[str, Callable[[], Any]] = {
    "a node": lambda: graph_of(stream_token(write)),
    "a node with three decorators": lambda: graph_of(stream_all(write)),
    "a graph": lambda: stream_token(graph_of(write)),
    "a node of a decorated graph": lambda: stream_token(graph_of(stream_token(write))),
    "a graph in a decorated graph's node": lambda: stream_token(graph_of(outer)),
    "a graph with three decorators": lambda: stream_all(graph_of(write)),
}


@pytest.mark.parametrize("made", CAPTURED.values(), ids=CAPTURED.keys())
async def test_one_handler_of_ours_sees_a_token(
    streaming: StreamingModule, handlers: list[list[BaseCallbackHandler]], made: Callable[[], Any]
) -> None:
    await made().ainvoke({"topic": "go"}, streaming.config(execution_id="e"))
    assert len(handlers) >= len(WORDS)
    assert {tuple(type(each).__name__ for each in found) for found in handlers} <= {
        ("CaptureHandler",),
        ("StreamingTap",),
    }
    run = await read(streaming, "e")
    assert "".join(run.texts().values()) == "".join(WORDS)


async def test_an_activated_module_adds_no_handler_to_a_token(
    streaming: StreamingModule, handlers: list[list[BaseCallbackHandler]]
) -> None:
    with streaming.activate():
        await graph_of(stream_token(write)).ainvoke({"topic": "go"}, {"configurable": {"thread_id": "e"}})
    assert {len(found) for found in handlers} == {1}


@pytest.mark.parametrize("decorator", [stream_token, stream_all, stream_progress])
async def test_nodes_of_a_graph_that_a_node_of_a_decorated_graph_calls_are_captured(
    streaming: StreamingModule, decorator: Any
) -> None:
    graph = decorator(graph_of(outer))
    await graph.ainvoke({"topic": "go"}, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert [each.node_id for each in run.of("node_start")] == ["outer", "write"]
    assert [each.node_id for each in run.of("node_complete")] == ["write", "outer"]
    if decorator is not stream_progress:
        assert run.texts() == {"write": "".join(WORDS)}


async def test_what_a_node_lets_out_together_is_one_append(
    streaming: StreamingModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended: list[list[str]] = []
    log: Any = streaming.hub.log
    original = log.append

    def append(batch: Batch) -> int:
        appended.append([draft.type for draft in batch.updates])
        return original(batch)

    monkeypatch.setattr(log, "append", append)
    node = stream_token(write, buffer_size=50, batch_size=10, flush_interval=10.0)
    await graph_of(node).ainvoke({"topic": "go"}, streaming.config(execution_id="e"))
    sent = [len(types) for types in appended if set(types) == {"token"}]
    assert sent == [1, 5, 5, 2], "the first token, twice the full buffer in batches, and what is left"
    run = await read(streaming, "e")
    assert [each.data.get("batch_size", 1) for each in run.of("token")] == [1, *[10] * 11, 9]
    assert run.texts() == {"write": "".join(WORDS)}
