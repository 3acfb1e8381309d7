"""Cases outside the table of `test_same`: caches and models shared with plain graphs, tracers, timeouts, cancels."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers.base import BaseTracer
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.constants import TAG_NOSTREAM
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.pregel import _retry
from langgraph.types import CachePolicy, TimeoutPolicy
from pydantic import Field

from lg_streaming import stream_all
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.capture.graphs import State, Update, graph_of
from tests.capture.same.observing import DECORATIONS, PLAIN, captured, observe
from tests.capture.same.shapes import SHAPES
from tests.capture.same.views import View, first_difference
from tests.providers.models import PACKAGES, Package, import_packages
from tests.providers.server import serving
from tests.providers.turns import RAIN, TEXT_AND_CALLS, Turn

Wrap = Callable[[Any], Any]


def as_it_is(target: Any) -> Any:
    return target


# --- caches -------------------------------------------------------------------------------------------------


@tool
def look() -> str:
    """Look out of the window."""
    return "Rain."


def write(state: State) -> Update:
    return {"text": "written"}


async def awrite(state: State) -> Update:
    return {"text": "written"}


def one_key(*_: object) -> str:
    return "one"


CACHED: dict[str, Any] = {"function": write, "coroutine": awrite, "ToolNode": ToolNode([look])}


@pytest.mark.parametrize("node", CACHED)
async def test_decorated_and_plain_graphs_share_cached_results(streaming: StreamingModule, node: str) -> None:
    cache = InMemoryCache[Any]()

    def made(decorate_node: Wrap, decorate_graph: Wrap) -> Any:
        builder: Any = StateGraph(State)
        builder.add_node("step", decorate_node(CACHED[node]), cache_policy=CachePolicy(key_func=one_key))
        return decorate_graph(builder.add_edge(START, "step").compile(cache=cache))

    call = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "call-1"}], id="m")
    hits = list[bool]()
    for decorate in ((as_it_is, as_it_is), (stream_all, as_it_is), (as_it_is, stream_all), (stream_all, stream_all)):
        graph, config = made(*decorate), streaming.config(execution_id=f"e{len(hits)}")
        chunks = [each async for each in graph.astream({"messages": [call]}, config, stream_mode="updates")]
        hits.append(any("__metadata__" in each for each in chunks))
    assert hits == [False, True, True, True]


# --- calls of which nothing is published --------------------------------------------------------------------


class Listed(ScriptedChatModel):
    """A model that notes how it is asked."""

    asked: list[str] = Field(default_factory=list[str])

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.append("stream")
        return super()._stream(*args, **kwargs)

    def _astream(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.append("stream")
        return super()._astream(*args, **kwargs)

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self.asked.append("whole")
        return await super()._agenerate(messages, stop)


@pytest.mark.parametrize("decoration", [each for each in DECORATIONS if each != PLAIN])
async def test_a_call_that_is_not_published_is_not_made_to_stream(decoration: str) -> None:
    chosen = DECORATIONS[decoration]
    model = Listed(answers=["Hello there."])
    quiet: Any = model.with_config(tags=[TAG_NOSTREAM])

    async def ask(state: State) -> Update:
        return {"messages": [await quiet.ainvoke("Hi")]}

    graph = graph_of(stream_all(ask) if chosen.nodes else ask, names=("ask",))
    async with captured(chosen, {"configurable": {"thread_id": "t"}}) as config:
        await (stream_all(graph) if chosen.graph else graph).ainvoke({"topic": ""}, config)
    assert model.asked[0] == "whole"


@pytest.mark.parametrize("tags", [[TAG_NOSTREAM], []])
async def test_a_call_after_its_node_is_not_made_to_stream(streaming: StreamingModule, tags: list[str]) -> None:
    """A task that outlives its node calls a model with the node's config."""
    model, done = Listed(answers=["Hello there."]), asyncio.Event()
    tasks = list[asyncio.Task[Any]]()

    @stream_all
    async def ask(state: State) -> Update:
        async def later() -> None:
            await done.wait()
            await model.with_config(tags=tags).ainvoke("Hi")

        tasks.append(asyncio.create_task(later()))
        return {"text": "done"}

    await graph_of(ask).ainvoke({"topic": ""}, streaming.config(execution_id="e"))
    done.set()
    await tasks[0]
    assert model.asked[0] == "whole"


# --- idle timeouts ------------------------------------------------------------------------------------------

ANSWERS = ["One two three four five six seven eight nine ten."]
IDLE = TimeoutPolicy(idle_timeout=60)


def timed_function(decorate: Wrap) -> Any:
    model = ScriptedChatModel(answers=ANSWERS)

    async def ask(state: State) -> Update:
        return {"messages": [await model.ainvoke("Hi")]}

    return graph_with(decorate(ask), timeout=IDLE)


def timed_agent(decorate: Wrap) -> Any:
    return graph_with(decorate(cast("Any", create_agent)(ScriptedChatModel(answers=ANSWERS), [])), timeout=IDLE)


def timed_chain(decorate: Wrap) -> Any:
    chain = RunnableLambda(_prompt) | ScriptedChatModel(answers=ANSWERS) | RunnableLambda(_answer)
    return graph_with(decorate(chain), timeout=IDLE)


async def _prompt(state: Any) -> str:
    return "Hi"


async def _answer(message: Any) -> Update:
    return {"messages": [message]}


def timed_inside(decorate: Wrap) -> Any:
    """A timed node of a graph that a decorated node calls."""
    inner = timed_function(as_it_is)

    async def call(state: State) -> Update:
        return {"messages": (await inner.ainvoke({"topic": ""}))["messages"]}

    return graph_with(decorate(call))


def timed_in_subgraph(decorate: Wrap) -> Any:
    return graph_with(decorate(timed_function(as_it_is)))


def timed_in_tool(decorate: Wrap) -> Any:
    inner = timed_function(as_it_is)

    @tool
    async def look() -> str:
        """Ask."""
        return (await inner.ainvoke({"topic": ""}))["messages"][-1].text

    def fail(error: Exception) -> str:
        raise error

    return graph_with(decorate(ToolNode([look], handle_tool_errors=fail)))


TIMED: dict[str, Callable[[Wrap], Any]] = {
    "function": timed_function,
    "agent": timed_agent,
    "chain": timed_chain,
    "graph called inside": timed_inside,
    "subgraph": timed_in_subgraph,
    "graph in a tool": timed_in_tool,
}


def graph_with(node: Any, **options: Any) -> Any:
    builder: Any = StateGraph(State)
    return builder.add_node("step", node, **options).add_edge(START, "step").compile()


async def restarts(shape: str, decoration: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the number of restarts of an idle clock, for a caller of the result and for a reader of messages."""
    scope, count = cast("Any", _retry)._TimedAttemptScope, 0
    touch = scope.touch

    def counted(self: Any) -> None:
        nonlocal count
        count += 1
        touch(self)

    monkeypatch.setattr(scope, "touch", counted)
    chosen = DECORATIONS[decoration]
    call = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "call-1"}], id="m")
    inputs = {"topic": "", "messages": [call]}
    graph = TIMED[shape](stream_all if chosen.nodes else as_it_is)
    graph = stream_all(graph) if chosen.graph else graph
    async with captured(chosen, {"configurable": {"thread_id": "t"}}) as config:
        await graph.ainvoke(inputs, config)
        whole = count
        async for _ in graph.astream(inputs, config, stream_mode="messages", subgraphs=True):
            pass
    monkeypatch.undo()
    return [whole, count - whole]


PLAIN_RESTARTS: dict[str, list[int]] = {}
"""Results of `restarts` for plain graphs, by shape."""


@pytest.mark.parametrize("decoration", [each for each in DECORATIONS if each != PLAIN])
@pytest.mark.parametrize("shape", TIMED)
async def test_tokens_that_stream_for_our_sake_keep_no_node_alive(
    shape: str, decoration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shape not in PLAIN_RESTARTS:
        PLAIN_RESTARTS[shape] = await restarts(shape, PLAIN, monkeypatch)
    plain = PLAIN_RESTARTS[shape]
    assert 0 < plain[0] < plain[1] - 10, "tokens that the caller reads count"
    assert await restarts(shape, decoration, monkeypatch) == plain


# --- cancels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoration", DECORATIONS)
async def test_a_timeout_around_a_call_ends_it_at_once(decoration: str) -> None:
    chosen, waiting, cleaned = DECORATIONS[decoration], asyncio.Event(), list[str]()

    async def wait(state: State) -> Update:
        try:
            waiting.set()
            await asyncio.Event().wait()
        finally:
            cleaned.append("node")
        return {}

    graph = graph_of(stream_all(wait) if chosen.nodes else wait, names=("wait",))
    graph = stream_all(graph) if chosen.graph else graph
    async with captured(chosen, {"configurable": {"thread_id": "t"}}) as config:
        task = asyncio.create_task(graph.ainvoke({"topic": ""}, config))
        await waiting.wait()
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await graph.ainvoke({"topic": ""}, config)
    assert cleaned == ["node"] * 2


# --- providers' packages ------------------------------------------------------------------------------------


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    import_packages()
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path_factory.getbasetemp()))  # clients then read no certificates


async def answer(package: Package, turn: Turn, way: str, decoration: str) -> Any:
    """The message in the state after a call of a graph whose node asks a provider's model."""
    chosen = DECORATIONS[decoration]
    with serving(package.dialect, turn) as provider:
        model = package.make(provider.url)

        async def ask(state: State) -> Update:
            return {"messages": [await model.ainvoke("Hi")]}

        graph = graph_of(stream_all(ask) if chosen.nodes else ask, names=("ask",), checkpointer=InMemorySaver())
        graph = stream_all(graph) if chosen.graph else graph
        async with captured(chosen, {"configurable": {"thread_id": "t"}}) as config:
            if way == "messages":
                async for _ in graph.astream({"topic": ""}, config, stream_mode="messages"):
                    pass
            else:
                await graph.ainvoke({"topic": ""}, config)
        state = await graph.aget_state({"configurable": {"thread_id": "t"}})
        return state.values["messages"][-1]


@pytest.mark.usefixtures("packages")
@pytest.mark.filterwarnings("ignore:Received unexpected tool content block")  # the model was given no tools
@pytest.mark.parametrize("turn", [RAIN, TEXT_AND_CALLS], ids=["text", "calls"])
@pytest.mark.parametrize("package", PACKAGES, ids=lambda each: each.name)
async def test_a_providers_message_is_the_one_that_the_mode_messages_gives(package: Package, turn: Turn) -> None:
    """A captured call's message differs from a plain one only as LangChain's own streaming makes it differ."""
    whole = await answer(package, turn, "result", PLAIN)
    streamed = await answer(package, turn, "messages", PLAIN)
    for decoration in ("nodes", "capture=all", "graph in a block"):
        captured_one = await answer(package, turn, "result", decoration)
        assert View().of(captured_one) == View().of(streamed)
        assert (captured_one.text, captured_one.tool_calls) == (whole.text, whole.tool_calls)
        assert captured_one.usage_metadata == whole.usage_metadata
        assert type(captured_one) is type(whole)


# --- tracers ------------------------------------------------------------------------------------------------


class Tracer(BaseTracer):
    """Keeps the runs as LangSmith would get them."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Any] = []

    def _persist_run(self, run: Any) -> None:
        self.roots.append(run)


def tree(run: Any) -> dict[str, Any]:
    return {
        "name": run.name,
        "type": run.run_type,
        "inputs": run.inputs,
        "outputs": run.outputs,
        "error": run.error and run.error.partition("\n")[0],
        "tags": sorted(run.tags or ()),
        "extra": {key: each for key, each in run.extra.items() if key != "runtime"},
        "events": [each["name"] for each in run.events if each["name"] != "new_token"],
        "children": [tree(each) for each in run.child_runs],
    }


async def traced(shape: str, decoration: str) -> Any:
    tracer = Tracer()
    await observe(shape, "streaming", "ainvoke", decoration, handlers=[tracer])
    return View().of([tree(root) for root in tracer.roots])


PLAIN_RUNS: dict[str, Any] = {}
"""Trace of plain graphs, by shape."""


@pytest.mark.parametrize("decoration", ["nodes", "graph", "all, activated"])
@pytest.mark.parametrize("shape", [name for name, shape in SHAPES.items() if not shape.parallel])
async def test_a_tracer_sees_the_same_runs(shape: str, decoration: str) -> None:
    """But for the tokens of models that stream."""
    if shape not in PLAIN_RUNS:
        PLAIN_RUNS[shape] = await traced(shape, PLAIN)
    assert PLAIN_RUNS[shape], "a tracer sees runs of a plain graph"
    assert first_difference(PLAIN_RUNS[shape], await traced(shape, decoration)) is None
