"""A caller that asks for events inside a captured node gets the chunks of chains, not only those of models."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from lg_streaming import stream_all
from lg_streaming.module import StreamingModule
from tests.capture.graphs import State, graph_of, model, read

pytestmark = [
    pytest.mark.filterwarnings("ignore:astream_log is deprecated"),
    pytest.mark.filterwarnings("ignore:astream_events version='v1'"),
    pytest.mark.filterwarnings("ignore:The v3 streaming protocol"),
]

Chain = Runnable[Any, Any]
SAID = "Rain in the hills."


async def _upper_async(chunks: AsyncIterator[Any]) -> AsyncIterator[str]:
    async for chunk in chunks:
        yield chunk.upper()


def _upper(chunks: Iterator[Any]) -> Iterator[str]:
    for chunk in chunks:
        yield chunk.upper()


def parsed() -> Chain:
    return model(SAID) | StrOutputParser()


def transformed() -> Chain:
    return parsed() | RunnableGenerator(_upper, _upper_async)


def given_by_a_function() -> Chain:
    def choose(_: object) -> Chain:
        return transformed()

    return RunnableLambda(choose)


def a_graph() -> Chain:
    def write(state: State) -> dict[str, Any]:
        return {"text": parsed().invoke(state["topic"])}

    return RunnableLambda(lambda topic: {"topic": topic}) | graph_of(write)


CHAINS = [parsed, transformed, given_by_a_function, a_graph]


def _content(chunk: object) -> str:
    return str(getattr(chunk, "content", chunk))


async def _events(chain: Chain, version: Any) -> list[Any]:
    events = cast("Any", chain).astream_events("go", version=version)
    kinds = [(event["event"], event["name"], event["data"]) async for event in events]
    return sorted((kind, name, _content(data["chunk"])) for kind, name, data in kinds if kind.endswith("_stream"))


async def _log(chain: Chain) -> list[Any]:
    patches = [op async for patch in chain.astream_log("go") for op in patch.ops]
    return sorted((op["path"], _content(op["value"])) for op in patches if "/streamed_output" in op["path"])


WAYS: dict[str, Callable[[Chain], Any]] = {
    "events v1": lambda chain: _events(chain, "v1"),
    "events v2": lambda chain: _events(chain, "v2"),
    "log": _log,
}
CAPTURES = ["node", "graph", "all"]


def _captured(capture: str, streaming: StreamingModule, node: Any) -> tuple[Any, Any]:
    match capture:
        case "node":
            return graph_of(stream_all(node)), streaming.config(execution_id="e")
        case "graph":
            return stream_all(graph_of(node)), streaming.config(execution_id="e")
        case _:
            return graph_of(node), streaming.config(execution_id="e", capture="all")


@pytest.mark.parametrize("capture", CAPTURES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chain", CHAINS)
async def test_the_chunks_of_chains(
    streaming: StreamingModule, chain: Callable[[], Chain], way: str, capture: str
) -> None:
    seen = list[Any]()

    async def listen(_: State) -> dict[str, Any]:
        seen.append(await WAYS[way](chain()))
        return {"text": "x"}

    await graph_of(listen).ainvoke({"topic": "x"})
    graph, config = _captured(capture, streaming, listen)
    await graph.ainvoke({"topic": "x"}, config)
    plain, captured = seen
    assert captured == plain
    node = "write" if chain is a_graph and capture != "node" else "listen"
    assert (await read(streaming, "e")).texts() == {node: SAID}


class Listener(BaseCallbackHandler):
    """A streaming handler of the caller's own, as LangChain's structural test finds it."""

    def __init__(self) -> None:
        self.chunks = list[Any]()

    def tap_output_iter(self, run_id: object, output: Iterator[Any]) -> Iterator[Any]:
        for chunk in output:
            self.chunks.append(chunk)
            yield chunk

    def tap_output_aiter(self, run_id: object, output: AsyncIterator[Any]) -> AsyncIterator[Any]:
        return output


@pytest.mark.parametrize("capture", CAPTURES)
def test_a_streaming_handler_in_a_sync_node(capture: str) -> None:
    streaming = StreamingModule()
    seen = list[list[Any]]()

    def listen(_: State) -> dict[str, Any]:
        listener = Listener()
        text = "".join(transformed().stream("go", {"callbacks": [listener]}))
        seen.append([_content(chunk) for chunk in listener.chunks])
        return {"text": text}

    graph_of(listen).invoke({"topic": "x"})
    graph, config = _captured(capture, streaming, listen)
    graph.invoke({"topic": "x"}, config)
    plain, captured = seen
    assert captured == plain
    assert len(plain) > len(SAID.split()), "the chunks of chains are there at all"


async def test_a_model_in_a_chain_still_streams(streaming: StreamingModule) -> None:
    async def write(_: State) -> dict[str, Any]:
        return {"text": await given_by_a_function().ainvoke("go")}

    await graph_of(stream_all(write)).ainvoke({"topic": "x"}, streaming.config(execution_id="e"))
    assert len((await read(streaming, "e")).of("token")) > 1
