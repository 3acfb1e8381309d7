"""The hooks into LangGraph's loop: the installed LangGraph has what they rely on, and can be without."""

import asyncio
import inspect
import logging
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel import _loop
from langgraph.runtime import Runtime
from langgraph.types import CachePolicy

from lg_streaming import stream_all
from lg_streaming.capture import pregel_hooks as hooks_module
from lg_streaming.module import StreamingModule
from tests.capture.graphs import Input, State, Update, graph_of, model, read

INPUT: Input = {"topic": "rivers"}
pregel: Any = hooks_module
LOOPS = ("SyncPregelLoop", "AsyncPregelLoop")


def test_every_hook_is_installed() -> None:
    assert sorted(pregel._installed) == sorted(f"{name}.{method}" for name, method, _ in pregel._HOOKS)
    for class_name, method, _ in pregel._HOOKS:
        function = inspect.getattr_static(getattr(_loop, class_name), method)
        assert function.__wrapped__.__module__ == _loop.__name__
        assert function.__name__ == method


def test_the_methods_are_of_the_kind_that_the_hooks_take_them_for() -> None:
    assert not inspect.iscoroutinefunction(_loop.SyncPregelLoop.match_cached_writes)
    assert inspect.iscoroutinefunction(_loop.AsyncPregelLoop.amatch_cached_writes)
    push: Any = inspect.unwrap(_loop.PregelLoop.__dict__["_push_graph_lifecycle_event"])
    assert list(inspect.signature(push).parameters)[:2] == ["self", "kind"]
    assert "interrupts" in inspect.signature(push).parameters
    for name in LOOPS:
        assert issubclass(getattr(_loop, name), _loop.PregelLoop)


class _Looked:
    """States of loops when their hooks run."""

    def __init__(self) -> None:
        self.loops: list[Any] = []

    def after_init(self, original: Any) -> Any:
        def init(loop: Any, *args: Any, **kwargs: Any) -> None:
            original(loop, *args, **kwargs)
            self.loops.append(loop)

        return init


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> _Looked:
    looked = _Looked()
    monkeypatch.setattr(_loop.PregelLoop, "__init__", looked.after_init(_loop.PregelLoop.__init__))
    return looked


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_a_loop_has_what_the_hooks_read(looked: _Looked, *, is_async: bool) -> None:
    def write(state: State) -> Update:
        return {"text": "."}

    graph = graph_of(write)
    config = {"configurable": {"thread_id": "t"}}
    if is_async:
        await graph.ainvoke(INPUT, config)
    else:
        graph.invoke(INPUT, config)
    (loop,) = looked.loops
    assert type(loop).__name__ == LOOPS[is_async]
    assert loop.manager.run_id is not None
    assert loop.config["configurable"]["thread_id"] == "t"
    runtime: Any = loop.config["configurable"][pregel._RUNTIME]
    assert type(runtime) is Runtime
    assert callable(runtime.stream_writer)
    assert runtime.override(stream_writer=print).stream_writer is print
    assert loop.nodes["write"].bound is graph.nodes["write"].bound
    assert loop.checkpoint_ns is not None


# --- a LangGraph without them --------------------------------------------------------------------------------

EVERY = [f"{class_name}.{method}" for class_name, method, _ in pregel._HOOKS if method != "__init__"]


@pytest.fixture
def reinstalled(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    """Installs the hooks again, on stand-ins for LangGraph's classes that lack a method."""
    caplog.set_level(logging.WARNING, "lg_streaming")
    monkeypatch.setattr(pregel, "_installed", [])

    def install(*missing: str) -> list[str]:
        class Loops:
            pass

        for class_name in {class_name for class_name, _, _ in pregel._HOOKS}:
            own = [method for one, method, _ in pregel._HOOKS if one == class_name]
            methods: dict[str, Any] = {name: print for name in own if f"{class_name}.{name}" not in missing}
            if class_name not in missing:
                setattr(Loops, class_name, type(class_name, (), methods))
        monkeypatch.setattr(pregel, "_loop", Loops)
        pregel.install_hooks()
        return [record.getMessage() for record in caplog.records]

    return install


@pytest.mark.parametrize("missing", EVERY)
def test_a_method_that_is_missing_is_one_warning(reinstalled: Any, missing: str) -> None:
    (warning,) = reinstalled(missing)
    assert missing in warning
    pregel.install_hooks()
    assert len(pregel._installed) == len(pregel._HOOKS)


def test_a_class_that_is_missing_is_a_warning_for_each_of_its_methods(reinstalled: Any) -> None:
    warnings = reinstalled("AsyncPregelLoop")
    assert len(warnings) == 1
    assert "AsyncPregelLoop" in warnings[0]


@pytest.fixture
def without_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    for class_name, method, _ in pregel._HOOKS:
        kind = getattr(_loop, class_name)
        monkeypatch.setattr(kind, method, inspect.getattr_static(kind, method).__wrapped__)


@pytest.mark.usefixtures("without_hooks")
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_without_any_hook_everything_else_works(streaming: StreamingModule, way: str) -> None:
    def write(state: State) -> Update:
        get_stream_writer()({"step": 1})
        return {"text": model("Some text.").invoke("go").text}

    graph = stream_all(graph_of(write))
    config = streaming.config(execution_id="e")
    result = graph.invoke(INPUT, config) if way == "invoke" else await graph.ainvoke(INPUT, config)
    assert result["text"] == "Some text."
    run = await read(streaming, "e")
    assert run.texts() == {"write": "Some text."}
    assert run.final == "workflow_complete"
    assert not run.of("custom")


@pytest.mark.usefixtures("without_hooks")
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_without_any_hook_a_breakpoint_interrupts(streaming: StreamingModule, way: str) -> None:
    """LangGraph's public callback reports it."""

    def one(state: State) -> Update:
        return {"text": "one"}

    def two(state: State) -> Update:
        return {"text": "two"}

    graph = stream_all(graph_of(one, two, checkpointer=InMemorySaver(), interrupt_before=["two"]))
    config = streaming.config({"configurable": {"thread_id": "t"}}, execution_id="e")
    await (graph.ainvoke(INPUT, config) if way == "ainvoke" else asyncio.to_thread(graph.invoke, INPUT, config))
    info = streaming.hub.info("e")
    assert info is not None
    assert info.state == "interrupted"
    await graph.ainvoke(None, config)
    run = await read(streaming, "e")
    assert len(run.of("workflow_interrupted")) == 1
    assert run.final == "workflow_complete"


def one_key(*_: Any) -> str:
    return "key"


@pytest.mark.usefixtures("without_hooks")
async def test_without_any_hook_a_cached_answer_is_an_answer(streaming: StreamingModule) -> None:
    def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("cached")]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("write", write, cache_policy=CachePolicy(key_func=one_key)).add_edge(START, "write")
    graph = stream_all(builder.compile(cache=InMemoryCache()))
    for execution_id in ("one", "two"):
        state = await graph.ainvoke({"messages": "go"}, streaming.config(execution_id=execution_id))
        assert state["messages"][-1].text == "cached"
    assert (await read(streaming, "two")).types == ["workflow_start", "workflow_complete"]
