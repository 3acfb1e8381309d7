"""Every kind of node can be decorated, and stays of its kind."""

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_type_hints

import pytest
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import StreamWriter

from lg_streaming import current_emitter, stream_all, stream_event, stream_progress, stream_token, streaming_options
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.capture.graphs import TEXT, Input, State, Update, collect, graph_of, model, read

INPUT: Input = {"topic": "rivers"}


class Writer:
    def __init__(self, text: str) -> None:
        self.text = text

    @stream_token
    async def method(self, state: State) -> Update:
        return {"text": (await model(self.text).ainvoke("go")).text}

    def undecorated(self, state: State) -> Update:
        return {"text": model(self.text).invoke("go").text}

    async def __call__(self, state: State) -> Update:
        return {"text": (await model(self.text).ainvoke("go")).text}


async def write_with(text: str, state: State) -> Update:
    return {"text": (await model(text).ainvoke("go")).text}


writer = Writer("from the object")


def say(state: Any) -> Update:
    return {"text": model("from the object").invoke("go").text}


def topic_model(topic: str) -> ScriptedChatModel:
    return model(f"about {topic}")


NODES = [
    pytest.param(writer.method, "method", id="decorated method"),
    pytest.param(stream_token(writer.undecorated), "undecorated", id="bound method"),
    pytest.param(stream_token(writer), "Writer", id="callable object"),
    pytest.param(stream_token(functools.partial(write_with, "from the object")), "write_with", id="partial"),
    pytest.param(stream_token(RunnableLambda(writer.undecorated)), "undecorated", id="runnable"),
    pytest.param(stream_token(say), "say", id="function"),
]


@pytest.mark.parametrize(("node", "name"), NODES)
@pytest.mark.row("HIVE-16")
async def test_all_kinds_of_nodes(streaming: StreamingModule, node: Any, name: str) -> None:
    given_name = node.get_name() if hasattr(node, "get_name") else node.__name__
    assert given_name == name
    graph = graph_of(node, names=("node",))
    assert (await graph.ainvoke(INPUT, streaming.config(execution_id="e")))["text"] == "from the object"
    run = await read(streaming, "e")
    assert run.texts() == {"node": "from the object"}
    assert run.one("node_start").data["node_name"] == name


async def test_an_async_generator_node(streaming: StreamingModule) -> None:
    @stream_token
    async def generate(state: State) -> AsyncIterator[Update]:
        text = ""
        for word in ("one ", "two ", "three"):
            current_emitter().token(word)
            text += word
            yield {"text": text}

    assert inspect.isasyncgenfunction(generate)
    result = await graph_of(generate).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert result["text"] == "one two three"
    run = await read(streaming, "e")
    assert run.texts() == {"generate": "one two three"}
    assert run.types[-2:] == ["node_complete", "workflow_complete"]


async def test_a_generator_node_is_in_force_only_while_it_runs(streaming: StreamingModule) -> None:
    @stream_token
    def generate(state: Update) -> Iterator[int]:
        for number in range(3):
            current_emitter().token(str(number))
            yield number

    with streaming.execution("e"):
        for number in generate({}):
            current_emitter().token(f"outside {number}")
    run = await read(streaming, "e")
    assert run.texts() == {"generate": "012"}
    assert run.types[-2] == "node_complete"


async def test_an_async_generator_that_is_left_early(streaming: StreamingModule) -> None:
    closed = asyncio.Event()

    @stream_token
    async def generate() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.set()

    async with streaming.execution("e"):
        steps: Any = generate()
        assert await anext(steps) == 1
        await steps.aclose()
    assert closed.is_set()
    assert (await read(streaming, "e")).one("node_error").data["error"]["code"] == "cancelled"


async def test_what_langgraph_injects_still_comes(streaming: StreamingModule) -> None:
    got: dict[str, Any] = {}

    @stream_token
    async def node(
        state: State, config: RunnableConfig, *, store: BaseStore, writer: StreamWriter, runtime: Runtime[None]
    ) -> Update:
        got.update(config=config, store=store, writer=writer, runtime=runtime)
        writer({"custom": "yes"})
        return {"text": (await model().ainvoke("go")).text}

    graph = graph_of(node, store=InMemoryStore())
    chunks = await collect(graph.astream(INPUT, streaming.config(execution_id="e"), stream_mode="custom"))
    assert chunks == [{"custom": "yes"}]
    assert isinstance(got["store"], InMemoryStore)
    assert isinstance(got["runtime"], Runtime)
    assert got["config"]["configurable"]["execution_id"] == "e"
    assert (await read(streaming, "e")).texts() == {"node": TEXT}


def test_signature_hints_name_and_nature_are_the_nodes_own() -> None:
    async def node(state: State, config: RunnableConfig) -> Update:
        """Docstring of the node."""
        return {}

    decorated = stream_token(stream_progress(node))
    assert inspect.signature(decorated) == inspect.signature(node)
    assert get_type_hints(decorated) == get_type_hints(node)
    assert (decorated.__name__, decorated.__doc__) == ("node", "Docstring of the node.")
    assert inspect.iscoroutinefunction(decorated)
    assert not inspect.iscoroutinefunction(stream_token(say))


def test_langgraph_infers_the_input_schema_of_a_decorated_callable() -> None:
    class Narrow(State):
        extra: str

    class Node:
        def __call__(self, state: Narrow) -> Update:
            return {}

    builder: Any = StateGraph(State)
    builder.add_node("node", stream_token(Node()))
    assert builder.nodes["node"].input_schema is Narrow


async def test_an_explicit_config_reaches_a_bare_thread(streaming: StreamingModule) -> None:
    pool = ThreadPoolExecutor(2)

    @stream_event
    @stream_token
    async def node(state: State, config: RunnableConfig) -> Update:
        chain: Any = RunnableLambda(topic_model) | StrOutputParser()
        answer = await asyncio.wrap_future(pool.submit(model("in a thread ").invoke, "go", config))
        return {"text": answer.text + await asyncio.wrap_future(pool.submit(chain.invoke, "ice", config))}

    result = await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert result["text"] == "in a thread about ice"
    assert (await read(streaming, "e")).texts() == {"node": "in a thread about ice"}
    await asyncio.to_thread(pool.shutdown)


async def test_threads_with_a_context_are_heard_without_a_config(streaming: StreamingModule) -> None:
    @stream_token
    async def node(state: State) -> Update:
        message = await asyncio.to_thread(model().invoke, "go")
        assert threading.current_thread() is threading.main_thread()
        return {"text": message.text}

    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert (await read(streaming, "e")).texts() == {"node": TEXT}


@pytest.mark.row("HIVE-D5")
async def test_called_outside_any_graph(streaming: StreamingModule) -> None:
    @stream_token
    async def node(word: str) -> str:
        return (await model(word).ainvoke("go")).text

    assert await node("alone") == "alone"
    with streaming.activate():
        assert await node("alone") == "alone"
    assert await streaming.hub.log.executions() == ()
    async with streaming.execution("e"):
        assert await node("first") + await node("second") == "firstsecond"
    run = await read(streaming, "e")
    assert run.texts(by=lambda update: update.metadata.namespace) == {"node:1": "first", "node:2": "second"}


async def test_a_foreign_decorator_in_between_is_kept_and_streams_once(streaming: StreamingModule) -> None:
    calls: list[str] = []

    def foreign(node: Any) -> Any:
        @functools.wraps(node)
        async def wrapper(state: State) -> Update:
            calls.append("foreign")
            return await node(state)

        return wrapper

    @stream_event
    @foreign
    @stream_token
    async def node(state: State) -> Update:
        return {"text": (await model().ainvoke("go")).text}

    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert calls == ["foreign"]
    run = await read(streaming, "e")
    assert run.texts() == {"node": TEXT}
    assert len(run.of("node_start")) == 1
    assert "result" in run.one("node_complete").data


@pytest.mark.row("HIVE-18")
def test_options_can_be_read_back() -> None:
    async def plain(state: State) -> Update:
        return {}

    assert streaming_options(plain) is None
    both = stream_token(stream_progress(include_metrics=True)(plain))
    options = streaming_options(both)
    assert options is not None
    assert options.token is not None
    assert options.token.enabled is not False
    assert options.progress is not None
    assert options.progress.chosen["include_metrics"]
    assert options.event is None
    only_progress = streaming_options(stream_progress(plain))
    assert only_progress is not None
    assert only_progress.token is None
    runnable = streaming_options(stream_event(RunnableLambda(plain)))
    assert runnable is not None
    assert runnable.event is not None


@pytest.mark.row("HIVE-19")
async def test_stream_all(streaming: StreamingModule) -> None:
    async def plain(state: State) -> Update:
        return {"text": (await model().ainvoke("go")).text}

    assert stream_all()(plain) is plain
    some = streaming_options(stream_all(token=True, progress={"include_metrics": True})(plain))
    assert some is not None
    assert (some.token is not None, some.event is not None) == (True, False)
    await graph_of(stream_all(plain)).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert {"token", "progress", "llm_start", "node_complete"} <= set((await read(streaming, "e")).types)


@pytest.mark.row("HIVE-20")
async def test_the_node_id_can_be_chosen(streaming: StreamingModule) -> None:
    @stream_token(node_id="the-writer")
    async def node(state: State) -> Update:
        return {"text": (await model().ainvoke("go")).text}

    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert run.texts() == {"the-writer": TEXT}
    assert run.one("node_start").data["node_name"] == "node"


def test_what_is_no_node_is_refused() -> None:
    with pytest.raises(TypeError, match="a node is a callable or a Runnable"):
        stream_token("not a node")


async def test_a_decorated_tool_node_streams_its_tools(streaming: StreamingModule) -> None:
    from langchain_core.tools import tool
    from langgraph.prebuilt import ToolNode

    @tool
    async def good(word: str) -> str:
        """Good."""
        return word.upper()

    @tool
    def bad(word: str) -> str:
        """Bad."""
        raise ValueError(f"cannot {word}")

    @tool
    async def thinker(word: str) -> str:
        """Calls a model."""
        return (await model(f"thinking of {word}").ainvoke("go")).text

    calls = [{"name": name, "args": {"word": name}, "id": f"call-{name}"} for name in ("good", "bad", "thinker")]
    tools = stream_event(stream_token(ToolNode([good, bad, thinker], handle_tool_errors=True)))
    graph = graph_of(tools, names=("tools",))
    asking = AIMessage("", tool_calls=[{**call, "type": "tool_call"} for call in calls])  # pyright: ignore[reportArgumentType]
    await graph.ainvoke({"messages": [asking]}, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert {update.data["tool"] for update in run.of("tool_start")} == {"good", "bad", "thinker"}
    outputs = {update.data["tool"]: update.data["output"] for update in run.of("tool_complete")}
    assert outputs == {"good": "GOOD", "thinker": "thinking of thinker"}
    failed = run.one("tool_error")
    assert failed.data["tool"] == "bad"
    assert failed.metadata.tool_call_id == "call-bad"
    assert "cannot bad" in failed.data["error"]["message"]
    assert run.texts() == {"tools": "thinking of thinker"}
