"""Errors of nodes: the number of the try, whether another follows, and the errors in a group."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import NodeTimeoutError
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.pregel import _retry, _runner
from langgraph.types import Command, RetryPolicy, Send, interrupt

from lg_streaming import stream_event
from lg_streaming.capture import retries as retries_module
from lg_streaming.capture.outcome import describe_failure
from lg_streaming.module import StreamingModule
from tests.capture.graphs import Input, State, Update, read

INPUT: Input = {"topic": "rivers"}
Retry = RetryPolicy | list[RetryPolicy]
OK = "ok"
hooks: Any = retries_module


class CodedError(Exception):
    code = 429


def policy(attempts: int = 3, retry_on: Any = Exception) -> RetryPolicy:
    return RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=attempts, retry_on=retry_on)


def graph_of(
    script: list[BaseException | str], retry: Retry | None, *, sync: bool = False, decorated: bool = True
) -> Any:
    """Return a graph with one node, whose tries raise what the script names, in order."""
    tries = iter(script)

    def step() -> Update:
        result = next(tries)
        if isinstance(result, BaseException):
            raise result
        return {"text": result}

    async def node(_: State) -> Update:
        return step()

    def node_sync(_: State) -> Update:
        return step()

    function: Any = node_sync if sync else node
    builder: Any = StateGraph(State)
    builder.add_node("node", stream_event(function) if decorated else function, retry_policy=retry)
    builder.set_entry_point("node")
    return builder.compile()


async def errors_of(streaming: StreamingModule, graph: Any, **options: Any) -> list[tuple[int, bool]]:
    try:
        await graph.ainvoke(INPUT, streaming.config(execution_id="e", **options))
    except Exception as error:  # noqa: BLE001 (what the script raises)
        logging.getLogger(__name__).debug("%s", error)
    run = await read(streaming, "e")
    found = [(each.data["attempt"], each.data["will_retry"]) for each in run.of("node_error")]
    starts = [start.data["attempt"] for start in run.of("node_start")]
    # The prediction is right: another try follows if and only if it was announced.
    assert starts == list(range(1, len(starts) + 1))
    assert [attempt in starts[:-1] for attempt, _ in found] == [retried for _, retried in found]
    return found


# ---------------------------------------------------------------- policies
def is_os_error(error: Exception) -> bool:
    return isinstance(error, OSError)


VALUE, OS, KEY = ValueError("v"), OSError("o"), KeyError("k")
SEQUENCES: dict[str, tuple[list[BaseException | str], Retry | None, list[tuple[int, bool]]]] = {
    "no policy": ([VALUE], None, [(1, False)]),
    "one try": ([VALUE], policy(1), [(1, False)]),
    "success at last": ([VALUE, VALUE, OK], policy(3), [(1, True), (2, True)]),
    "failure at last": ([VALUE, VALUE, VALUE], policy(3), [(1, True), (2, True), (3, False)]),
    "another error": ([VALUE, OS], policy(3, ValueError), [(1, True), (2, False)]),
    "a sequence of types": ([VALUE, OS, KEY], policy(9, (ValueError, OSError)), [(1, True), (2, True), (3, False)]),
    "a function": ([OS, VALUE], policy(3, is_os_error), [(1, True), (2, False)]),
    "several policies": (
        [VALUE, OS, OS],
        [policy(2, ValueError), policy(3, OSError)],
        [(1, True), (2, True), (3, False)],
    ),
    "the first that matches decides": ([VALUE, VALUE], [policy(2, ValueError), policy(9)], [(1, True), (2, False)]),
    "the default": ([ConnectionError("c"), VALUE], RetryPolicy(initial_interval=0.001), [(1, True), (2, False)]),
    "a group": ([ExceptionGroup("g", [VALUE]), OK], policy(3, ExceptionGroup), [(1, True)]),
    "a group of another": ([ExceptionGroup("g", [VALUE])], policy(3, ValueError), [(1, False)]),
}


@pytest.mark.parametrize("decorated", [True, False])
@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("name", SEQUENCES)
async def test_each_error_names_its_try_and_whether_another_follows(
    streaming: StreamingModule, name: str, *, sync: bool, decorated: bool
) -> None:
    script, retry, expected = SEQUENCES[name]
    graph = graph_of(script, retry, sync=sync, decorated=decorated)
    assert await errors_of(streaming, graph, **({} if decorated else {"capture": "all"})) == expected


@pytest.mark.parametrize("name", SEQUENCES)
async def test_in_sync_calls(streaming: StreamingModule, name: str) -> None:
    script, retry, expected = SEQUENCES[name]
    graph = graph_of(script, retry, sync=True)

    def call() -> None:
        try:
            graph.invoke(INPUT, streaming.config(execution_id="e"))
        except Exception as error:  # noqa: BLE001 (what the script raises)
            logging.getLogger(__name__).debug("%s", error)

    await asyncio.to_thread(call)
    run = await read(streaming, "e")
    assert [(each.data["attempt"], each.data["will_retry"]) for each in run.of("node_error")] == expected


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_function_of_the_application_is_called_as_often_as_without_capture(
    streaming: StreamingModule, *, streamed: bool
) -> None:
    asked: list[str] = []

    def asks(name: str, *, matches: bool) -> Callable[[Exception], bool]:
        def retry_on(error: Exception) -> bool:
            asked.append(f"{name} {error}")
            return matches

        return retry_on

    graph = graph_of([VALUE, OS, OK], [policy(3, asks("a", matches=False)), policy(3, asks("b", matches=True))])
    await graph.ainvoke(INPUT, streaming.config(execution_id="e") if streamed else None)
    assert asked == ["a v", "b v", "a o", "b o"]


async def test_a_function_that_raises_ends_the_graph_with_its_error(streaming: StreamingModule) -> None:
    def retry_on(_: Exception) -> bool:
        raise RuntimeError("mine")

    graph = graph_of([VALUE], policy(3, retry_on))
    with pytest.raises(RuntimeError, match="mine"):
        await graph.ainvoke(INPUT, streaming.config(execution_id="e"))
    assert (await read(streaming, "e")).one("node_error").data["will_retry"] is False


async def test_a_node_in_a_graph_that_is_a_node(streaming: StreamingModule) -> None:
    inner = graph_of([VALUE, VALUE, OS, OK], policy(2, ValueError))
    outer: Any = StateGraph(State)
    outer.add_node("outer", stream_event(inner), retry_policy=policy(3, (OSError, ValueError)))
    outer.set_entry_point("outer")
    await outer.compile().ainvoke(INPUT, streaming.config(execution_id="e"))
    found = [
        (each.data["node_name"], each.data["will_retry"]) for each in (await read(streaming, "e")).of("node_error")
    ]
    assert found == [("node", True), ("node", False), ("outer", True), ("node", False), ("outer", True)]


async def test_a_cancelled_node_is_not_retried(streaming: StreamingModule) -> None:
    graph = graph_of([asyncio.CancelledError()], policy(3, BaseException))
    assert await errors_of(streaming, graph) == [(1, False)]


async def test_a_node_that_is_timed_out_is_retried(streaming: StreamingModule) -> None:
    hangs = [True, False]

    @stream_event
    async def node(_: State) -> Update:
        if hangs.pop(0):
            await asyncio.Event().wait()
        return {"text": OK}

    builder: Any = StateGraph(State)
    builder.add_node("node", node, timeout=0.05, retry_policy=policy(2, NodeTimeoutError))
    builder.set_entry_point("node")
    assert await errors_of(streaming, builder.compile()) == [(1, True)]


async def test_tasks_of_the_functional_interface(streaming: StreamingModule) -> None:
    script = [VALUE, VALUE, OK]

    @task(retry_policy=policy(3))
    async def work() -> str:
        result = script.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result

    @entrypoint()
    async def graph(_: Input) -> str:
        return await work()

    await graph.ainvoke(INPUT, streaming.config(execution_id="e", capture="all"))
    errors = (await read(streaming, "e")).of("node_error")
    assert [(each.data["attempt"], each.data["will_retry"]) for each in errors] == [(1, True), (2, True)]


async def test_branches_that_fail_at_once_have_their_own_tries(streaming: StreamingModule) -> None:
    def branches(_: State) -> list[Send]:
        return [Send("branch", {"name": name}) for name in "abc"]

    failed: dict[str, int] = {}
    together = asyncio.Barrier(3)

    @stream_event
    async def branch(state: Any) -> Any:
        await together.wait()
        name = state["name"]
        failed[name] = failed.get(name, 0) + 1
        if failed[name] <= 1 + (name == "c"):
            raise ValueError(name)
        return {}

    builder: Any = StateGraph(State)
    builder.add_node("branch", branch, retry_policy=policy(3))
    builder.add_conditional_edges(START, branches, ["branch"])
    running = asyncio.create_task(builder.compile().ainvoke(INPUT, streaming.config(execution_id="e")))
    async with asyncio.timeout(10):
        while failed != {"a": 2, "b": 2, "c": 2}:
            await asyncio.sleep(0)
        while together.n_waiting != 1:
            await asyncio.sleep(0.001)
        await asyncio.gather(together.wait(), together.wait())
        await running
    errors = (await read(streaming, "e")).of("node_error")
    found = sorted((each.data["error"]["message"], each.data["attempt"], each.data["will_retry"]) for each in errors)
    assert found == [("a", 1, True), ("b", 1, True), ("c", 1, True), ("c", 2, True)]


async def test_a_function_that_a_node_calls_is_not_retried(streaming: StreamingModule) -> None:
    @stream_event
    async def inner() -> None:
        raise VALUE

    @stream_event
    async def node(_: State) -> Update:
        await inner()
        return {}

    builder: Any = StateGraph(State)
    builder.add_node("node", node, retry_policy=policy(2))
    builder.set_entry_point("node")
    with pytest.raises(ValueError, match="v"):
        await builder.compile().ainvoke(INPUT, streaming.config(execution_id="e"))
    errors = (await read(streaming, "e")).of("node_error")
    found = [(each.data["node_name"], each.data["attempt"], each.data["will_retry"]) for each in errors]
    assert found == [("inner", 1, False), ("node", 1, True), ("inner", 1, False), ("node", 2, False)]


async def test_tries_count_anew_after_an_interrupt_in_langgraph_and_go_on_in_updates(
    streaming: StreamingModule,
) -> None:
    script: list[BaseException | None] = [VALUE, None, VALUE, VALUE, None]

    @stream_event
    async def node(_: State) -> Update:
        if (error := script.pop(0)) is not None:
            raise error
        return {"text": interrupt("?")}

    builder: Any = StateGraph(State)
    builder.add_node("node", node, retry_policy=policy(3))
    builder.set_entry_point("node")
    graph = builder.compile(checkpointer=InMemorySaver())
    config = streaming.config({"configurable": {"thread_id": "e"}})
    await graph.ainvoke(INPUT, config)
    await graph.ainvoke(Command(resume="yes"), config)
    errors = (await read(streaming, "e")).of("node_error")
    found = [(each.data["attempt"], each.data["will_retry"]) for each in errors]
    assert found == [(1, True), (3, True), (4, True)]


# ---------------------------------------------------------------- the hooks
def test_the_hooks_are_installed() -> None:
    for module, name in ((_runner, "run_with_retry"), (_runner, "arun_with_retry"), (_retry, "_should_retry_on")):
        function: Any = getattr(module, name)
        assert function.__wrapped__.__module__ == "langgraph.pregel._retry"
        assert function.__name__ == name
    before = getattr(_runner, "run_with_retry")  # noqa: B009
    retries_module.install_retry_hooks()
    assert getattr(_runner, "run_with_retry") is before  # noqa: B009


async def test_without_the_hooks_errors_have_no_prediction(
    streaming: StreamingModule, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hooks, "_installed", [])
    monkeypatch.delattr(_runner, "run_with_retry")
    retries_module.install_retry_hooks()
    assert "errors of nodes have no will_retry" in caplog.text
    with pytest.raises(ValueError, match="v"):
        await graph_of([VALUE], policy(1)).ainvoke(INPUT, streaming.config(execution_id="e"))
    data = (await read(streaming, "e")).one("node_error").data
    assert (data["attempt"], "will_retry" in data) == (1, False)
    caplog.clear()


# ---------------------------------------------------------------- groups
def nested() -> ExceptionGroup[Exception]:
    return ExceptionGroup("outer", [VALUE, ExceptionGroup("inner", [CodedError("slow down"), OS])])


NAMED = {
    "message": "outer (2 sub-exceptions): ValueError: v",
    "type": "ExceptionGroup",
    "errors": [
        {"message": "v", "type": "ValueError"},
        {"message": "slow down", "type": "CodedError", "code": 429},
        {"message": "o", "type": "OSError"},
    ],
}


async def test_the_errors_of_a_group_are_named_on_nodes_and_runs(streaming: StreamingModule) -> None:
    with pytest.raises(ExceptionGroup):
        await graph_of([nested()], None).ainvoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert run.one("node_error").data["error"] == NAMED
    assert run.updates[-1].data["error"] == NAMED


async def test_the_errors_of_a_group_are_named_on_tools(streaming: StreamingModule) -> None:
    @tool
    async def search(query: str) -> str:
        """Search."""
        raise nested()

    @stream_event
    async def node(_: State) -> Update:
        call = {"name": "search", "args": {"query": "q"}, "id": "c", "type": "tool_call"}
        await search.ainvoke(call)
        return {}

    builder: Any = StateGraph(State)
    builder.add_node("node", node)
    builder.set_entry_point("node")
    with pytest.raises(ExceptionGroup):
        await builder.compile().ainvoke(INPUT, streaming.config(execution_id="e"))
    assert (await read(streaming, "e")).one("tool_error").data["error"] == NAMED


async def test_the_errors_of_a_group_are_named_on_blocks_and_by_programs(streaming: StreamingModule) -> None:
    with pytest.raises(ExceptionGroup):
        async with streaming.execution("e"):
            raise nested()
    assert (await read(streaming, "e")).updates[-1].data["error"] == NAMED
    streaming.hub.open("f")
    streaming.hub.emitter("f").node_start("node")
    streaming.hub.emitter("f").node_error(nested(), node_id="node")
    await streaming.hub.fail("f", nested())
    run = await read(streaming, "f")
    assert run.one("node_error").data["error"] == NAMED
    assert run.updates[-1].data["error"] == NAMED


async def test_a_real_task_group(streaming: StreamingModule) -> None:
    async def fail(error: Exception) -> None:
        raise error

    async def node(_: State) -> Update:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(VALUE))
            group.create_task(fail(OS))
        return {}

    builder: Any = StateGraph(State)
    builder.add_node("node", stream_event(node))
    builder.set_entry_point("node")
    with pytest.raises(ExceptionGroup):
        await builder.compile().ainvoke(INPUT, streaming.config(execution_id="e"))
    errors = (await read(streaming, "e")).one("node_error").data["error"]["errors"]
    assert [each["message"] for each in errors] == ["v", "o"]


async def test_an_interrupt_in_a_group_with_a_failure_is_no_error(streaming: StreamingModule) -> None:
    async def ask() -> None:
        interrupt("?")

    async def fail() -> None:
        raise VALUE

    async def node(_: State) -> Update:
        results = await asyncio.gather(ask(), fail(), return_exceptions=True)
        raise ExceptionGroup("both", [each for each in results if isinstance(each, Exception)])

    builder: Any = StateGraph(State)
    builder.add_node("node", stream_event(node))
    builder.set_entry_point("node")
    graph = builder.compile(checkpointer=InMemorySaver())
    with pytest.raises(ExceptionGroup):
        await graph.ainvoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    error = run.one("node_error").data["error"]
    assert error["errors"] == [{"message": "v", "type": "ValueError"}]
    assert error["message"].endswith(": ValueError: v")
    assert run.final == "workflow_error"


def test_a_timeout_in_a_group_has_its_code() -> None:
    late = NodeTimeoutError("node", 1.0, kind="run", run_timeout=1.0)
    found = describe_failure(ExceptionGroup("g", [VALUE, late, *[OS] * 20]), debug=False)
    assert [each.get("code") for each in found["errors"]] == [None, "timed_out", *[None] * 8]
    assert found["errors"][1]["message"].startswith("timed out: ")
    alone = describe_failure(late, debug=False)
    assert (alone["code"], "errors" in alone) == ("timed_out", False)
