"""`collect` runs what a test has and returns every update; the plugin's fixture gives a module."""

import asyncio
import subprocess
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest
from langgraph.types import RetryPolicy, interrupt

from lg_streaming import StreamingModule, current_emitter, stream_all, stream_progress, stream_token
from lg_streaming.errors import StreamingConfigError
from lg_streaming.testing import ScriptedChatModel, collect, collect_sync
from tests.capture.graphs import Input, State, Update, graph_of
from tests.support import warm

INPUT: Input = {"topic": "rivers"}


def writer(**options: Any) -> Any:
    model = ScriptedChatModel(answers=["It rains."], **options)

    @stream_all
    async def write(state: State) -> Update:
        return {"text": (await model.ainvoke("go")).text}

    return write


def threaded_writer(**options: Any) -> Any:
    model = ScriptedChatModel(answers=["It rains."], **options)

    @stream_token
    def write(state: State) -> Update:
        return {"text": model.invoke("go").text}

    return write


@stream_progress
def count(state: State) -> Update:
    return {}


async def test_a_graph() -> None:
    updates = await collect(graph_of(writer(), count), INPUT)
    assert updates.result["text"] == "It rains."
    assert updates.error is None
    assert updates.text == "It rains."
    assert updates.texts == {"write": "It rains."}
    assert updates.nodes == ["write", "count"]
    assert updates.outcome == "workflow_complete"
    assert updates.types[0] == "workflow_start"
    assert updates[-1].is_final
    assert len(updates) == len(updates.types) == sum(updates.counts.values())
    assert updates.progress == [0.0, 100.0, 0.0, 100.0]
    assert updates.of("token").text == "It rains."
    assert updates.of("node_start", node="count").types == ["node_start"]
    assert updates.of(node="count").one("node_complete").node_id == "count"
    assert updates[:1].types == ["workflow_start"]
    assert repr(updates).startswith("<Collected workflow_start ")
    with pytest.raises(AssertionError, match=r"one 'node_start' update was expected, and 2 came"):
        updates.one("node_start")
    with pytest.raises(AssertionError, match=r"one 'usage' update of node 'count' was expected, and 0 came"):
        updates.one("usage", node="count")


def test_a_graph_without_a_loop() -> None:
    updates = collect_sync(graph_of(threaded_writer()), INPUT)
    assert (updates.text, updates.result["text"], updates.outcome) == ("It rains.", "It rains.", "workflow_complete")


async def test_an_awaitable_and_functions(streaming: StreamingModule) -> None:
    async def work() -> int:
        current_emitter().custom("note", {"a": 1})
        await writer()(INPUT)
        return 7

    for target in (work(), work, lambda: work()):  # noqa: PLW0108 (a function that returns an awaitable)
        updates = await collect(target, streaming=streaming)
        assert (updates.result, updates.text, updates.outcome) == (7, "It rains.", "workflow_complete")
    assert (await collect(lambda: threaded_writer()(INPUT))).text == "It rains."


def test_a_function_without_a_loop(streaming: StreamingModule) -> None:
    updates = collect_sync(lambda: threaded_writer()(INPUT)["text"], streaming=streaming, execution_id="mine")
    assert (updates.text, updates.result) == ("It rains.", "It rains.")
    assert {update.execution_id for update in updates} == {"mine"}
    assert collect_sync("mine", streaming=streaming).types == updates.types


async def test_an_execution_by_its_id(streaming: StreamingModule) -> None:
    await collect(graph_of(writer()), INPUT, streaming=streaming, execution_id="mine")
    updates = await collect("mine", streaming=streaming)
    assert updates.text == "It rains."
    assert {update.execution_id for update in updates} == {"mine"}


async def test_an_execution_that_still_runs(streaming: StreamingModule) -> None:
    async with streaming.execution("mine") as block:
        block.emitter.token("Hi")
        updates = await collect("mine", streaming=streaming)
        assert (updates.text, updates.outcome) == ("Hi", None)


@stream_token
def fail(state: State) -> Update:
    current_emitter().token("half")
    raise LookupError("no")


async def test_an_error() -> None:
    with pytest.raises(LookupError, match="no"):
        await collect(graph_of(fail), INPUT)
    updates = await collect(graph_of(fail), INPUT, raises=False)
    assert isinstance(updates.error, LookupError)
    assert (updates.text, updates.outcome) == ("half", "workflow_error")


def test_an_error_without_a_loop() -> None:
    with pytest.raises(LookupError, match="no"):
        collect_sync(graph_of(fail), INPUT)
    updates = collect_sync(graph_of(fail), INPUT, raises=False)
    assert isinstance(updates.error, LookupError)
    assert (updates.text, updates.outcome) == ("half", "workflow_error")


async def test_a_run_that_takes_too_long_is_cancelled(streaming: StreamingModule) -> None:
    graph = graph_of(writer(first_delay=60))
    with pytest.raises(TimeoutError):
        await collect(graph, INPUT, timeout=0.1)
    updates = await collect(graph, INPUT, timeout=0.1, raises=False, streaming=streaming)
    assert isinstance(updates.error, TimeoutError)
    assert updates.outcome == "workflow_cancelled"


def test_a_sync_run_that_takes_too_long_is_left() -> None:
    go_on = threading.Event()
    with pytest.raises(TimeoutError):
        collect_sync(go_on.wait, timeout=0.05)
    go_on.set()


async def test_a_run_that_waits_for_a_human() -> None:
    from langgraph.checkpoint.memory import InMemorySaver

    @stream_token
    async def ask(state: State) -> Update:
        return {"text": interrupt("Which?")}

    graph = graph_of(ask, checkpointer=InMemorySaver())
    updates = await collect(graph, INPUT, config={"configurable": {"thread_id": "t"}})
    assert updates.outcome == "workflow_interrupted"


async def test_only_the_last_try_counts() -> None:
    again = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=Exception)
    from langgraph.graph import START, StateGraph

    builder: Any = StateGraph(State)
    builder.add_node("write", writer(fail_after=1, failures=1), retry_policy=again)
    updates = await collect(builder.add_edge(START, "write").compile(), INPUT)
    assert updates.of("token").counts["token"] > 1
    assert updates.text == "It rains."
    assert updates.nodes == ["write", "write"]


async def test_a_message_of_a_call_that_failed_does_not_count(streaming: StreamingModule) -> None:
    async with streaming.execution("mine") as block:
        block.emitter.scoped(message_id="m1").token("half")
        block.emitter.scoped(message_id="m1").event("llm_error", {"error": {"message": "gone"}})
        block.emitter.scoped(message_id="m2").token("whole")
    assert (await collect("mine", streaming=streaming)).text == "whole"


async def test_what_agents_say_is_told_apart() -> None:
    async def supervise(state: State) -> Update:
        text = (await ScriptedChatModel(answers=["Ask."]).ainvoke("go")).text
        for agent in agents:
            text += (await agent.ainvoke(state))["text"]
        return {"text": text}

    agents = [
        graph_of(plain_writer(answer), names=("model",)).with_config(metadata={"lc_agent_name": name})
        for name, answer in {"researcher": "Rain.", "writer": "A poem."}.items()
    ]
    updates = await collect(graph_of(supervise), INPUT, capture="all")
    assert updates.text == "Ask.Rain.A poem."
    assert updates.texts == {"supervise": "Ask.", "model": "Rain.A poem."}
    assert [(message.agent_type, message.path, message.text) for message in updates.messages] == [
        (None, "supervise", "Ask."),
        ("researcher", "supervise/model", "Rain."),
        ("writer", "supervise/model", "A poem."),
    ]
    assert updates.of(agent="writer").text == "A poem."
    assert updates.of("token", node="model", agent="researcher").text == "Rain."
    assert not updates.of(agent="nobody")
    assert updates.one("node_start", agent="writer").node_id == "model"
    with pytest.raises(AssertionError, match="of agent 'critic'"):
        updates.one("node_start", agent="critic")


def plain_writer(answer: str) -> Any:
    async def model(state: State) -> Update:
        return {"text": (await ScriptedChatModel(answers=[answer]).ainvoke("go")).text}

    return model


@pytest.mark.parametrize("way", ["capture", "config"])
async def test_a_graph_that_is_not_decorated(streaming: StreamingModule, way: str) -> None:
    graph = graph_of(plain_writer("It rains."))
    options: Any = {"capture": "all"} if way == "capture" else {"config": streaming.config(capture="all")}
    assert (await collect(graph, INPUT, streaming=streaming, **options)).text == "It rains."
    assert (await collect(graph, INPUT, streaming=streaming)).text == ""


def test_a_graph_that_is_not_decorated_without_a_loop() -> None:
    def write(state: State) -> Update:
        return {"text": ScriptedChatModel(answers=["It rains."]).invoke("go").text}

    assert collect_sync(graph_of(write), INPUT, capture="all").text == "It rains."


async def test_a_node_that_begins_anew_takes_back_what_was_said_inside(streaming: StreamingModule) -> None:
    def at(namespace: str, attempt: int) -> Any:
        return block.emitter.scoped(namespace=namespace, node_id=namespace[:5], attempt=attempt)

    async with streaming.execution("mine") as block:
        at("agent:1", 1).event("node_start", {})
        at("agent:1|model:2", 1).token("half")
        at("agent:1", 2).event("node_start", {})
        at("agent:1|model:3", 1).token("whole")
    assert (await collect("mine", streaming=streaming)).text == "whole"


@pytest.mark.parametrize("target", [None, 7, [], object()])
async def test_what_cannot_be_run_is_refused(target: Any) -> None:
    with pytest.raises(StreamingConfigError, match="collect takes a graph, an awaitable, a function"):
        await collect(target)
    with pytest.raises(StreamingConfigError, match="input, config and capture are for graphs"):
        await collect(dict, {"a": 1})


@pytest.mark.parametrize("target", [None, 7, [], object()])
def test_what_cannot_be_run_without_a_loop_is_refused(target: Any) -> None:
    with pytest.raises(StreamingConfigError, match="collect_sync takes a graph, a sync function"):
        collect_sync(target)


def test_what_is_async_is_refused_without_a_loop() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    with pytest.raises(StreamingConfigError, match=r"await collect\(…\) takes what is async"):
        collect_sync(work)
    with pytest.raises(StreamingConfigError, match="input, config and capture are for graphs"):
        collect_sync(dict, {"a": 1})


# ---------------------------------------------------------------- the plugin

SUITE = """
import asyncio
import os
import pytest
from lg_streaming.testing import collect, collect_sync

seen = []

def work():
    from lg_streaming import current_emitter, stream_token
    stream_token(lambda: current_emitter().token("Hi"))()

def test_sync(streaming):
    seen.append(streaming)
    assert not [name for name in os.environ if name.startswith("LG_STREAMING_")]
    assert collect_sync(work, streaming=streaming).text == "Hi"

def test_of_its_own_loop(streaming):
    assert streaming is not seen[0]
    with pytest.raises(Exception, match="closed"):
        seen[0].hub.open("x")
    assert asyncio.run(collect(work, streaming=streaming)).text == "Hi"
    streaming.hub.observe("x", in_thread=True).subscribe(print)  # left open: closing frees it

def test_loop_policy_is_left_alone():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

def test_nothing_else():
    pass
"""


def _pytest(folder: Path, *arguments: str, suite: str = SUITE, fresh: bool = False) -> subprocess.CompletedProcess[str]:
    (folder / "test_suite.py").write_text(suite)
    environment = {"PATH": "/usr/bin:/bin", "LG_STREAMING_LIMITS__UPDATE_BYTES": "nonsense", "HOME": str(folder)}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    # Plugins of other packages, which take long to import and are not what this is about.
    others = ("-p", "no:schemathesis", "-p", "no:langsmith_plugin", "-p", "no:xdist", "-p", "no:cacheprovider")
    return warm.run("-m", "pytest", "-q", *others, *arguments, env=environment, cwd=folder, timeout=90, fresh=fresh)


def test_the_fixture_works_without_any_plugin(tmp_path: Path) -> None:
    done = _pytest(tmp_path, "-p", "no:anyio", fresh=True)
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_the_fixture_works_in_async_tests_and_can_be_replaced(tmp_path: Path) -> None:
    suite = """
import pytest
from lg_streaming.testing import collect

pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"

async def test_async(streaming):
    assert (await collect(lambda: 7, streaming=streaming)).result == 7

class TestReplaced:
    @pytest.fixture
    def streaming(self):
        return 5

    async def test_mine(self, streaming):
        assert streaming == 5
"""
    done = _pytest(tmp_path, suite=suite)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_a_run_that_does_not_use_it_imports_nothing_for_it(tmp_path: Path) -> None:
    suite = """
import sys

def test_modules():
    ours = sorted(name for name in sys.modules if name.startswith(("lg_streaming", "langgraph", "langchain_core")))
    assert ours == ["lg_streaming", "lg_streaming.pytest_plugin"]
"""
    done = _pytest(tmp_path, suite=suite, fresh=True)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_pytest_finds_the_plugin(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"lg-streaming": "lg_streaming.pytest_plugin"}
